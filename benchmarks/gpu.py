"""Everything that is measured on a GPU, in pieces of a few minutes whose results lie in the same files.

    python benchmarks/gpu.py --data DIR                  all pieces, one after the other, in a process each
    python benchmarks/gpu.py --data DIR --only train     one of them
    python benchmarks/gpu.py --data DIR --only train --batches 32
    python benchmarks/gpu.py --rehearse                  all in tiny form, on a CPU, on shapes that it draws

DIR is a data set in the COCO2017 layout. Needs Python 3.11 or newer and torch with CUDA; torchvision, where it is
installed, is measured beside us. The package runs from the source tree and need not be installed. Where packages are
missing and there is no network, bring their wheels in a folder `.whl` (made elsewhere by
`pip download --no-deps --only-binary=:all: --dest .whl msgspec simplejpeg hotcoco beartype ...`) and say before:

    python3 -m pip install --quiet --no-index --no-deps --target /tmp/site .whl/*.whl && export PYTHONPATH=/tmp/site
"""

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "src"))

import torch  # noqa: E402
from torch.autograd import DeviceType  # noqa: E402

from maskrcnn.bench import evaluate, ops, predict, results, timing, train  # noqa: E402
from maskrcnn.bench.machine import facts  # noqa: E402
from maskrcnn.bench.results import Row, Section  # noqa: E402
from maskrcnn.bench.setup import Options, set_up, trained_like  # noqa: E402
from maskrcnn.config import Recipe  # noqa: E402
from maskrcnn.data.annotation_store import AnnotationStore  # noqa: E402
from maskrcnn.data.buckets import buckets_for, plan_epoch, whole_images  # noqa: E402
from maskrcnn.data.feeder import feed, micro_batch_maker  # noqa: E402
from maskrcnn.data.loader import Loader  # noqa: E402
from maskrcnn.data.shapes import generate  # noqa: E402
from maskrcnn.data.split import open_split  # noqa: E402
from maskrcnn.files import atomic_write  # noqa: E402
from maskrcnn.recipes import read_recipe  # noqa: E402
from maskrcnn.runtime.devices import choose_device  # noqa: E402
from maskrcnn.runtime.distributed import World  # noqa: E402
from maskrcnn.runtime.execution import Execution, choose_algorithms, choose_execution, is_recorded  # noqa: E402
from maskrcnn.runtime.precision import choose_precision  # noqa: E402
from maskrcnn.train.optimizer import build_optimizer, set_rate  # noqa: E402
from maskrcnn.train.step import Updater, learnt  # noqa: E402

R50 = "maskrcnn/mask_rcnn_resnet50_fpn_1x"
SMALLER = ("data.short_sides=[480]", "data.max_side=800", "data.num_buckets=2")
"""Photos of the loss curve: three runs of them are to end in minutes."""
RATE, WARM_UP, GRADIENT_NORM = 0.002, 50, 10.0
"""Of the loss curve: weights are random, and a cautious beginning keeps them finite."""
SMOOTH = 20
"""Steps of the moving average."""
LARGEST, LONGEST_NAME = 30, 100
TINY = (
    "train.mixed_precision=false",
    "data.short_sides=[64]",
    "data.max_side=64",
    "model.backbone.width=64",
    "model.rpn.num_train_candidates=50",
    "model.rpn.num_train_proposals=40",
    "model.rpn.num_test_candidates=50",
    "model.rpn.num_test_proposals=30",
    "model.box_head.num_detections=10",
    "model.box_head.num_candidates=60",
)


class Scale(NamedTuple):
    """How much is measured."""

    recipe: str
    overrides: tuple[str, ...]
    batches: tuple[int, ...]
    peer_batch: int
    """The size of training batches that torchvision learns from too: its turn takes time."""
    repeats: int
    pictures: int
    """Evaluated, repeated where there are fewer."""
    steps: int
    """Of the loss curve."""
    ops_tests: str


FULL = Scale(R50, (), (8, 12, 16, 32), 12, 10, 960, 300, "triton or gpu")
REHEARSAL = Scale("demo", TINY, (2, 3), 2, 2, 12, 6, "triton and no_images")

Tasks = Iterator[tuple[str, Callable[[], list[Section]]]]


class Session(NamedTuple):
    """What the pieces share."""

    data: Path
    out: Path
    scale: Scale
    batches: tuple[int, ...]
    device: torch.device

    def recipe(self, *overrides: str) -> Recipe:
        return read_recipe(self.scale.recipe, [f"data.dataset_dir={self.data}", *self.scale.overrides, *overrides])

    def options(self, batch: int, repeats: int = 0, *, with_peer: bool = True) -> Options:
        return Options(batch, repeats or self.scale.repeats, None, with_peer)

    def write(self, name: str, text: str) -> None:
        """A file beside the results."""
        self.out.mkdir(parents=True, exist_ok=True)
        known = facts(self.device)
        path = self.out / f"{results.slug(known['device'])}-{known['date']}-{name}"
        with atomic_write(path) as draft:
            draft.write_text(text, encoding="utf-8")
        print(f"written to {path}")


def tests(session: Session) -> Tasks:
    """Those of the GPU and of its kernels; what they print goes to a file."""
    for name, words in {"gpu": ["tests/gpu"], "ops": ["tests/ops", "-k", session.scale.ops_tests]}.items():
        yield f"tests/{name}", lambda name=name, words=words: [_tested(session, name, words)]


def _tested(session: Session, name: str, words: list[str]) -> Section:
    begin, places = time.monotonic(), (str(REPOSITORY / "src"), os.environ.get("PYTHONPATH"))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=10", *words]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=500)
        text, end = done.stdout + done.stderr, done.stdout.strip().splitlines()[-1:] or ["no output"]
    except subprocess.TimeoutExpired as expired:
        text, end = (expired.stdout or b"").decode(), ["stopped after 500 seconds"]
    session.write(f"tests-{name}.txt", text)
    row: Row = {"tests": " ".join(words), "seconds": time.monotonic() - begin, "end": end[0].strip("= ")}
    return Section(f"tests, {name}", f"Tests, {name}", facts(session.device), [row])


def operators(session: Session) -> Tasks:
    """Every kernel, at the size of a training batch."""
    batch = session.batches[0]
    for mixed in ("true", "false"):
        yield (
            f"batch {batch}, mixed precision {mixed}",
            lambda mixed=mixed: ops.run(session.recipe(f"train.mixed_precision={mixed}"), session.options(batch)),
        )


def prediction(session: Session) -> Tasks:
    """The first batch stage by stage and with single images, the others whole."""
    for mixed in ("true", "false"):
        for batch in session.batches:
            first = batch == session.batches[0]
            yield (
                f"batch {batch}, mixed precision {mixed}",
                lambda batch=batch, mixed=mixed, first=first: predict.run(
                    session.recipe(f"evaluate.mixed_precision={mixed}"),
                    session.options(batch),
                    batches=(1,) if first else (),
                    by_stage=first,
                ),
            )


def training(session: Session) -> Tasks:
    """All sizes of batches, one of them beside torchvision."""
    for batch in session.batches:
        options = session.options(batch, with_peer=batch == session.scale.peer_batch)
        yield f"batch {batch}", lambda options=options: train.run(session.recipe("train.mixed_precision=true"), options)


def evaluation(session: Session) -> Tasks:
    """From files to scores."""
    batch = session.batches[0]
    options = session.options(batch, -(-session.scale.pictures // batch))
    yield f"batch {batch}", lambda: evaluate.run(session.recipe("evaluate.mixed_precision=true"), options)


def curve(session: Session) -> Tasks:
    """The same steps of training in several ways."""
    yield f"{session.scale.steps} steps", lambda: _curves(session)


def _curves(session: Session) -> list[Section]:
    """Fast steps in bf16 beside two runs of eager ones in float32, whose difference is what chance does."""
    recipe = session.recipe("train.batch=8", *(SMALLER if session.scale is FULL else ()))
    fast = choose_execution("auto", session.device, "train.execution")
    steps = session.scale.steps
    runs = {
        "eager, float32": _losses(session, recipe, steps, "eager", mixed=False),
        "eager, float32, again": _losses(session, recipe, steps, "eager", mixed=False),
        f"{fast}, bf16": _losses(session, recipe, steps, fast, mixed=True),
    }
    reference, *others = runs.values()
    rows = [_apart(name, reference, run) for name, run in zip([*runs][1:], others, strict=True)]
    lines = zip(count(1), *(run.tolist() for run in runs.values()))
    names = ",".join(f'"{name}"' for name in ("step", *runs))
    session.write("curve.csv", names + "\n" + "".join(",".join(map(str, line)) + "\n" for line in lines))
    known = facts(session.device) | {"recipe": recipe.name, "batch": "8", "steps": str(steps)}
    return [Section("curve", "Losses of the same steps, beside eager ones in float32", known, rows)]


def _losses(session: Session, recipe: Recipe, steps: int, execution: Execution, *, mixed: bool) -> torch.Tensor:
    """The sum of the losses of each step."""
    device, settings = session.device, recipe.train
    choose_algorithms(device)
    data = open_split(recipe.data, "train")
    buckets = buckets_for(data.sizes, recipe.data, recipe.data.short_sides)
    plans = (
        plan_epoch(
            whole_images(data.sizes), recipe.data, buckets, batch=settings.batch, seed=settings.seed, epoch=epoch
        )
        for epoch in count()
    )
    loader = Loader(data, chain.from_iterable(plans), recipe.data, pin_memory=device.type == "cuda")
    make = micro_batch_maker(AnnotationStore(data, device), device, recipe.data, one_shape=True)
    model = trained_like(recipe.model, len(data.category_ids)).to(device).train()
    precision = choose_precision(device, mixed)
    optimizer = build_optimizer(model, settings.optimizer, rate_on_device=is_recorded(execution, device))
    update = Updater(
        model,
        optimizer,
        world=World(device),
        precision=precision,
        clip_norm=GRADIENT_NORM,
        rungs=(execution,),
    )
    totals = []
    for number, (_, batch) in enumerate(islice(feed(loader, make, device), steps)):
        set_rate(optimizer, RATE * min(1.0, (number + 1) / WARM_UP))
        losses = update([batch])
        totals.append(learnt(dict(zip(losses.names, losses.mean, strict=True))))
    return torch.stack(totals).cpu()


def _apart(name: str, reference: torch.Tensor, other: torch.Tensor) -> Row:
    """Of curves smoothed by a moving average, as shares of the reference's mean."""
    window = min(SMOOTH, max(1, len(reference) // 3))
    a, b = (run.unfold(0, window, 1).mean(1) for run in (reference, other))
    shares = (b - a).abs() / a.mean()
    return {
        "run": name,
        "largest difference": float(shares.max()),
        "mean difference": float(shares.mean()),
        "first loss": float(other[0]),
        "last loss, smoothed": float(b[-1]),
        "reference's": float(a[-1]),
    }


def profile(session: Session) -> Tasks:
    """Where the time of one step and of one prediction goes, kernel by kernel."""
    batch = session.batches[0]
    options = session.options(batch, with_peer=False)
    yield "a training step", lambda: [_profiled(session, "training step", _step(session, options))]
    yield "a prediction", lambda: [_profiled(session, "prediction", _forward(session, options))]


def _step(session: Session, options: Options) -> timing.Work:
    recipe = session.recipe("train.mixed_precision=true")
    setup = set_up(recipe, recipe.train, open_split(recipe.data, "train"), options)
    comparison = train.StepComparison(setup)
    return comparison.ours(setup.execution, comparison.rois, setup.execution)()


def _forward(session: Session, options: Options) -> timing.Work:
    recipe = session.recipe("evaluate.mixed_precision=true")
    setup = set_up(recipe, recipe.evaluate, open_split(recipe.data, "train"), options)
    comparison = predict.PredictionComparison(setup)
    return comparison.ours(setup.execution, comparison.images)


def _profiled(session: Session, name: str, work: timing.Work) -> Section:
    """The largest kernels of one call, by their own time; the whole is that of the kernels, not of the clock."""
    for _ in range(timing.WARM_CALLS):
        work()
    on_gpu = session.device.type == "cuda"
    timing.synchronize(session.device)
    with torch.profiler.profile() as profiler:
        work()
        timing.synchronize(session.device)
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    events = [event for event in profiler.key_averages() if event.device_type == kind]
    spent = {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events}
    calls, total = {event.key: event.count for event in events}, sum(spent.values())
    rows: list[Row] = [
        {"kernel": key[:LONGEST_NAME], "ms": spent[key] / 1000, "share": spent[key] / total, "calls": calls[key]}
        for key in sorted(spent, key=spent.__getitem__, reverse=True)[:LARGEST]
    ]
    session.write(f"profile-{results.slug(name)}.txt", results.table(rows) + "\n")
    known = facts(session.device) | {"batch": str(session.batches[0]), "all kernels": f"{total / 1000:.3f} ms"}
    return Section(f"profile, {name}", f"The largest kernels of one {name}", known, rows)


PIECES = {
    "tests": tests,
    "ops": operators,
    "predict": prediction,
    "train": training,
    "eval": evaluation,
    "curve": curve,
    "profile": profile,
}


def run(session: Session, piece: str, minutes: float) -> None:
    """Its tasks, each added to the results as soon as it is done; none begins after so many minutes."""
    begin, written = time.monotonic(), []
    for name, task in PIECES[piece](session):
        if time.monotonic() - begin > 60 * minutes:
            print(f"{piece}, {name}: left out for want of time; --only {piece} --batches N measures it", flush=True)
            continue
        try:
            sections = task()
        except torch.OutOfMemoryError as error:
            print(f"{piece}, {name}: does not fit into the device's memory ({error})", flush=True)
        else:
            written = results.add(session.out, sections)
            print("\n\n".join([f"# {piece}, {name}", *map(results.described, sections)]), flush=True)
        gc.collect()
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
    print(f"{piece}: {time.monotonic() - begin:.0f} s; in " + " and ".join(map(str, written)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder in the COCO2017 layout")
    parser.add_argument("--only", choices=PIECES, action="append", help="a piece; may be given again")
    parser.add_argument("--batches", type=int, nargs="+", help="instead of 8 12 16 32")
    parser.add_argument("--minutes", type=float, default=6.0, help="no measurement of a piece begins later")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--rehearse", action="store_true", help="everything in tiny form, on a CPU")
    args = parser.parse_args()
    if not (args.rehearse or args.data):
        parser.error("--data is missing: a folder in the COCO2017 layout")
    pieces = args.only or list(PIECES)
    if len(pieces) > 1:  # a process each: what one holds, or breaks, does not matter to the next
        words = [word for word in sys.argv[1:] if word not in ("--only", *pieces)]
        sys.exit(max([subprocess.run([sys.executable, __file__, *words, "--only", one]).returncode for one in pieces]))
    scale = REHEARSAL if args.rehearse else FULL
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or generate(Path(folder) / "shapes", num_train=8, num_val=6, side=64)
        device = choose_device("auto", 0)
        session = Session(data, args.out, scale, tuple(args.batches or scale.batches), device)
        run(session, pieces[0], args.minutes)


if __name__ == "__main__":
    main()
