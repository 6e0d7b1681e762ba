"""`train.py`, `eval.py` and `infer.py`: flags of the MindSpore system this one grew out of, led to the commands.

A flag that is not given leaves the recipe's value. `--a.b v` and `a.b=v` override the recipe, as everywhere.
"""

import os
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, get_args

from maskrcnn import run_folder
from maskrcnn.cli.options import OUT, WEIGHTS
from maskrcnn.cli.predict import Device
from maskrcnn.job import ENABLED, HANDED_OVER
from maskrcnn.runtime.ranks import find_ranks
from maskrcnn.sentences import speaking

DEFAULT = "config/maskrcnn/mask_rcnn_resnet50_fpn_1x.yml"
WITHOUT_EFFECT = ("ms_mode", "ms_loss_scaler", "ms_loss_scaler_value", "eval_parallel", "run_profilor")
"""Flags that steer MindSpore's compiler, loss scaler and profiler; evaluation always uses every process."""
RESUME = (
    "continue exactly from a run, a checkpoint step-<n>, or the newest one of --save_dir (`auto`); a file of weights "
    "of any maker begins a run"
)
"""Help of a flag of which that system knows only the last."""
SAID = {"--out": "--save_dir", "device=cpu": "--device_target CPU"}
"""What a person types for words of `maskrcnn train`, in every script."""
SAID_BY_TRAIN = {**SAID, "--resume": "--resume_ckpt"}
SAID_BY_EVAL = {**SAID, "--weights": "--ckpt_path"}
SAID_BY_INFER = {**SAID_BY_EVAL, "precision bf16": "--mix True"}


def train() -> NoReturn:
    """The door `train.py`."""
    _enter(_train, SAID_BY_TRAIN)


def evaluate() -> NoReturn:
    """The door `eval.py`."""
    _enter(_evaluate, SAID_BY_EVAL)


def infer() -> NoReturn:
    """The door `infer.py`."""
    _enter(_infer, SAID_BY_INFER)


def _enter(door: Callable[[Sequence[str]], None], words: Mapping[str, str]) -> NoReturn:
    from maskrcnn.cli import run_and_exit

    with speaking(words):
        run_and_exit(lambda: door(sys.argv[1:]))


def _train(words: Sequence[str]) -> None:
    from maskrcnn.cli.train import train

    parser = _with_settings(_parser("Train: the door to `maskrcnn train`."))
    parser.add_argument("--resume_ckpt", metavar="PATH", help=RESUME)
    parser.add_argument("--weights", metavar="WEIGHTS", help=f"begin with these. {WEIGHTS}")
    parser.add_argument("--save_dir", metavar="DIR", help=f"the run's folder, {OUT}")
    parser.add_argument("--lr_init", metavar="RATE", help="train.optimizer.lr")
    parser.add_argument("--log_interval", metavar="STEPS", help="train.log_every")
    parser.add_argument("--run_eval", type=_boolean, metavar="True|False", help="evaluate after every epoch, or never")
    flags, settings = _read(parser, words)
    given = {
        "train.mixed_precision": flags.mix,
        "train.batch": _over_all_processes(flags.batch_size),
        "train.seed": flags.seed,
        "train.optimizer.lr": flags.lr_init,
        "train.log_every": flags.log_interval,
        "train.evaluate_every": None if flags.run_eval is None else int(flags.run_eval),
    }
    overrides = [*_shared(flags), *_settings(given), *settings]
    overrides += _data(flags, overrides)
    resume, begin = _start_of(flags)
    if flags.job is not None and flags.job.out:
        resume = resume or "auto"  # the platform starts a job again that broke
    said = SAID_BY_TRAIN if begin == flags.weights else {**SAID_BY_TRAIN, "--weights": "--resume_ckpt"}
    with speaking(said):
        train(flags.config, overrides, resume, begin, flags.save_dir)


def _evaluate(words: Sequence[str]) -> None:
    from maskrcnn.cli.evaluate import score_weights

    parser = _with_settings(_parser("Evaluate: the door to `maskrcnn eval`."))
    parser.add_argument("--ckpt_path", metavar="PATH", help="weights, or a folder of them")
    parser.add_argument("--save_dir", metavar="DIR", help=f"where scores and report.html go, {OUT}")
    flags, settings = _read(parser, words)
    _say_idle(flags, ["seed"])
    given = {"evaluate.mixed_precision": flags.mix, "evaluate.batch": flags.batch_size}
    overrides = [*_shared(flags), *_settings(given), *settings]
    overrides += _data(flags, overrides)
    score_weights(flags.config, overrides, find_weights(_given(flags, "ckpt_path")), flags.save_dir)


def _infer(words: Sequence[str]) -> None:
    from maskrcnn.cli.predict import Precision, find_objects

    parser = _parser("Find objects in images: the door to `maskrcnn predict`.")
    parser.add_argument("--ckpt_path", metavar="PATH", help="a weights folder or file")
    parser.add_argument("--imgs", metavar="PATH", help="an image or a folder")
    parser.add_argument("--save_dir", metavar="DIR", help=f"where results go, {OUT}; runs/predict unless given")
    parser.epilog = f"--config has no effect, since weights carry their recipe. {parser.epilog}"
    flags, settings = _read(parser, words, many=False)
    if settings:
        raise ValueError(f"infer.py takes no settings, since weights carry their recipe; got {' '.join(settings)}")
    precisions: dict[bool | None, Precision] = {None: "auto", True: "bf16", False: "fp32"}
    device: Device = flags.device_target or "auto"
    weights, images = _given(flags, "ckpt_path"), _given(flags, "imgs")
    find_objects(weights, [images], flags.save_dir or "runs/predict", device=device, precision=precisions[flags.mix])


def _start_of(flags: Namespace) -> tuple[str | None, str | None]:
    """What a run resumes, and the weights with which it begins: a file of weights is no run that could go on."""
    resume: str = flags.resume_ckpt or ""
    path = Path(resume)
    if not resume or not (path.is_file() or (path / run_folder.MODEL).is_file() or _is_remote_file(resume)):
        return resume or None, flags.weights
    checkpoint = path.parent if path.is_file() else path
    if (checkpoint / run_folder.STATE).is_file():
        return str(checkpoint), flags.weights
    if flags.weights:
        raise ValueError(f"--weights {flags.weights} and --resume_ckpt {resume} both begin a run; leave one out")
    return None, resume


def _is_remote_file(source: str) -> bool:
    """Whether an address is that of a file of weights, and not of a folder."""
    from maskrcnn.convert.files import SUFFIXES
    from maskrcnn.storage.location import Location, at

    place = at(source)
    return isinstance(place, Location) and place.suffix.lower() in SUFFIXES


def _over_all_processes(batch: str | None) -> str | None:
    """Images of a step, for the images that each process has of it."""
    if batch is None or not batch.isdecimal():
        return batch  # the recipe says what it expects
    return str(int(batch) * find_ranks(os.environ).size)


def find_weights(source: str) -> list[str]:
    """The weights at a path: a file, a weights folder, or all of those in a folder or in its `weights/`; or a name."""
    from maskrcnn.convert.files import SUFFIXES
    from maskrcnn.storage.location import local

    if "://" in source:
        return [source]
    path = local(source)
    if path.is_file() or (path / run_folder.MODEL).is_file():
        return [source]
    if not path.is_dir():
        raise FileNotFoundError(f"--ckpt_path: there is nothing at {path}")
    inside = sorted(one for folder in (path, path / run_folder.WEIGHTS) if folder.is_dir() for one in folder.iterdir())
    whole = [one for one in inside if not one.name.startswith(".")]  # a crash may leave drafts
    found = [one for one in whole if one.suffix.lower() in SUFFIXES or (one / run_folder.MODEL).is_file()]
    if not found:
        raise FileNotFoundError(f"--ckpt_path: {path} holds no weights: no {', '.join(SUFFIXES)}, no folders of them")
    return [str(one) for one in found]


def _parser(description: str) -> ArgumentParser:
    """What the three scripts share."""
    epilog = (
        f"Accepted so that old commands run, without effect: {_flags(WITHOUT_EFFECT)}. "
        f"On ModelArts, with {ENABLED} True (docs/modelarts.md): {_flags(HANDED_OVER)}."
    )
    parser = ArgumentParser(description=description, epilog=epilog, allow_abbrev=False)
    parser.add_argument("--config", default=DEFAULT, metavar="RECIPE", help=f"a YAML file; {DEFAULT} unless given")
    parser.add_argument("--device_target", type=str.lower, choices=get_args(Device), help="device")
    parser.add_argument("--mix", type=_boolean, metavar="True|False", help="mixed precision")
    for name in (*WITHOUT_EFFECT, ENABLED, *HANDED_OVER):
        parser.add_argument(f"--{name}", help=SUPPRESS)
    return parser


def _with_settings(parser: ArgumentParser) -> ArgumentParser:
    """What training and evaluation share."""
    parser.epilog = f"--a.b v and a.b=v override the recipe. {parser.epilog}"
    parser.add_argument("--batch_size", metavar="IMAGES", help="images on one device at once")
    parser.add_argument("--seed", metavar="NUMBER", help="train.seed; without effect on an evaluation")
    parser.add_argument("--num_parallel_workers", metavar="THREADS", help="data.num_workers")
    return parser


def _read(parser: ArgumentParser, words: Sequence[str], *, many: bool = True) -> tuple[Namespace, list[str]]:
    """The flags, and the settings that were written out.

    many   whether a platform's job has a process for each of its devices
    """
    flags, settings = parser.parse_known_args(words)
    from maskrcnn.cli.modelarts import check_data, find_job, start_processes, take_over

    flags.job = find_job(flags)
    if flags.job is not None and many:
        check_data(flags.job)  # before there are several processes that would say so
        start_processes()
    _say_idle(flags, WITHOUT_EFFECT)
    return flags, settings if flags.job is None else take_over(flags, settings)


def _data(flags: Namespace, overrides: Sequence[str]) -> list[str]:
    """The setting that leads to the data of a platform's job."""
    from maskrcnn.cli.modelarts import data_settings

    return data_settings(flags.job, flags.config, overrides)


def _given(flags: Namespace, name: str) -> str:
    value: str | None = getattr(flags, name)
    if not value:
        raise ValueError(f"expected --{name}, received none")
    return value


def _say_idle(flags: Namespace, names: Sequence[str]) -> None:
    for name in names:
        if getattr(flags, name) is not None:
            print(f"--{name} has no effect here", file=sys.stderr)


def _shared(flags: Namespace) -> Iterator[str]:
    return _settings({"device": flags.device_target, "data.num_workers": flags.num_parallel_workers})


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name}" for name in names)


def _settings(given: dict[str, object]) -> Iterator[str]:
    return (f"{path}={value}" for path, value in given.items() if value is not None)


def _boolean(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ArgumentTypeError(f"expected True or False, got {word!r}")
    return word.lower() == "true"
