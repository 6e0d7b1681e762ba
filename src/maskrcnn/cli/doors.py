"""`train.py`, `eval.py` and `infer.py`: flags of the MindSpore system this one grew out of, led to the commands.

A flag that is not given leaves the recipe's value. `--a.b v` and `a.b=v` override the recipe, as everywhere.
"""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

DEFAULT = "config/maskrcnn/mask_rcnn_resnet50_fpn_1x.yml"
WITHOUT_EFFECT = ("ms_mode", "ms_loss_scaler", "ms_loss_scaler_value", "eval_parallel", "run_profilor")
"""They steer MindSpore's compiler, loss scaler and profiler; evaluation always uses every process."""
OBJECT_STORAGE = ("enable_modelarts", "data_url", "train_url", "ckpt_url", "multi_data_url", "pretrain_url", "data_dir")


def train() -> NoReturn:
    """The door `train.py`."""
    _enter(_train)


def evaluate() -> NoReturn:
    """The door `eval.py`."""
    _enter(_evaluate)


def infer() -> NoReturn:
    """The door `infer.py`."""
    _enter(_infer)


def _enter(door: Callable[[Sequence[str]], None]) -> NoReturn:
    from maskrcnn.cli import run_and_exit

    run_and_exit(lambda: door(sys.argv[1:]))


def _train(words: Sequence[str]) -> None:
    from maskrcnn.cli.train import train

    parser = _with_settings(_parser("Train: the door to `maskrcnn train`."))
    parser.add_argument("--resume_ckpt", metavar="PATH", help="continue from this checkpoint, or `auto`")
    parser.add_argument("--save_dir", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("--lr_init", metavar="RATE", help="train.optimizer.lr")
    parser.add_argument("--log_interval", metavar="STEPS", help="train.log_every")
    parser.add_argument("--run_eval", type=_boolean, metavar="True|False", help="evaluate after every epoch, or never")
    flags, settings = _read(parser, words)
    given = {
        "train.mixed_precision": flags.mix,
        "train.batch": flags.batch_size,
        "train.optimizer.lr": flags.lr_init,
        "train.log_every": flags.log_interval,
        "train.evaluate_every": None if flags.run_eval is None else int(flags.run_eval),
    }
    train(flags.config, [*_shared(flags), *_settings(given), *settings], flags.resume_ckpt or None, flags.save_dir)


def _evaluate(words: Sequence[str]) -> None:
    from maskrcnn.cli.evaluate import score_weights

    parser = _with_settings(_parser("Evaluate: the door to `maskrcnn eval`."))
    parser.add_argument("--ckpt_path", type=Path, required=True, metavar="PATH", help="weights, or a folder of them")
    parser.add_argument("--save_dir", type=Path, metavar="DIR", help="where metrics.json goes")
    flags, settings = _read(parser, words)
    given = {"evaluate.mixed_precision": flags.mix, "evaluate.batch": flags.batch_size}
    overrides = [*_shared(flags), *_settings(given), *settings]
    found = find_weights(flags.ckpt_path)
    for weights in found:
        own = (flags.save_dir or Path("runs/eval")) / weights.name.removesuffix(".safetensors")
        score_weights(flags.config, overrides, weights, own if len(found) > 1 else flags.save_dir)


def _infer(words: Sequence[str]) -> None:
    from maskrcnn.cli.predict import Device, Precision, predict

    parser = _parser("Find objects on pictures: the door to `maskrcnn predict`.")
    parser.add_argument("--ckpt_path", required=True, metavar="PATH", help="a weights folder or file")
    parser.add_argument("--imgs", required=True, metavar="PATH", help="a picture or a folder")
    parser.add_argument("--save_dir", type=Path, default=Path("runs/predict"), metavar="DIR", help="where results go")
    flags, settings = _read(parser, words)
    if settings:
        raise ValueError(f"infer.py takes no settings, since weights carry their recipe; got {' '.join(settings)}")
    precisions: dict[bool | None, Precision] = {None: "auto", True: "bf16", False: "fp32"}
    device: Device = flags.device_target or "auto"
    predict(flags.ckpt_path, [flags.imgs], flags.save_dir, device=device, precision=precisions[flags.mix])


def find_weights(path: Path) -> list[Path]:
    """The weights at a path: a file, a weights folder, or all of those in a folder or in its `weights/`."""
    if path.is_file() or (path / "model.safetensors").is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"--ckpt_path: there is nothing at {path}")
    inside = sorted(
        candidate for folder in (path, path / "weights") if folder.is_dir() for candidate in folder.iterdir()
    )
    found = [one for one in inside if one.suffix == ".safetensors" or (one / "model.safetensors").is_file()]
    if not found:
        raise FileNotFoundError(f"--ckpt_path: {path} holds no weights: no .safetensors files, no folders of them")
    return found


def _parser(description: str) -> ArgumentParser:
    """What the three doors share."""
    parser = ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--config", default=DEFAULT, metavar="RECIPE", help=f"a YAML file; {DEFAULT} unless given")
    parser.add_argument("--device_target", type=str.lower, choices=("cpu", "gpu", "ascend"), help="device")
    parser.add_argument("--mix", type=_boolean, metavar="True|False", help="mixed precision")
    for name in WITHOUT_EFFECT:
        parser.add_argument(f"--{name}", metavar="...", help="no effect; accepted so that old commands run")
    for name in OBJECT_STORAGE:
        parser.add_argument(f"--{name}", metavar="...", help="object storage is not supported")
    return parser


def _with_settings(parser: ArgumentParser) -> ArgumentParser:
    """What training and evaluation share."""
    parser.epilog = "--a.b v and a.b=v override the recipe"
    parser.add_argument("--batch_size", metavar="IMAGES", help="over all devices together")
    parser.add_argument("--seed", metavar="NUMBER", help="train.seed")
    parser.add_argument("--num_parallel_workers", metavar="THREADS", help="data.num_workers")
    return parser


def _read(parser: ArgumentParser, words: Sequence[str]) -> tuple[Namespace, list[str]]:
    """The flags, and the settings that were written out."""
    flags, settings = parser.parse_known_args(words)
    for name in WITHOUT_EFFECT:
        if getattr(flags, name) is not None:
            print(f"--{name} has no effect here", file=sys.stderr)
    for name in OBJECT_STORAGE:
        if getattr(flags, name) not in (None, "", "False", "false", "0"):
            raise ValueError(f"--{name}: object storage is not supported; copy the data here and set data.dataset_dir")
    return flags, settings


def _shared(flags: Namespace) -> Iterator[str]:
    paths = {"device": flags.device_target, "train.seed": flags.seed, "data.num_workers": flags.num_parallel_workers}
    return _settings(paths)


def _settings(given: dict[str, object]) -> Iterator[str]:
    return (f"{path}={value}" for path, value in given.items() if value is not None)


def _boolean(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ArgumentTypeError(f"expected True or False, got {word!r}")
    return word.lower() == "true"
