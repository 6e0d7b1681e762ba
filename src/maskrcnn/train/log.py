"""What a run tells: lines for people, `log.txt`, `metrics.jsonl`, `results.csv`, and TensorBoard if wanted."""

import csv
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from maskrcnn.evaluate.coco import TITLES, headline, percent
from maskrcnn.evaluate.progress_lines import Ticker
from maskrcnn.files import DiskFull, append, atomic_write
from maskrcnn.history import line_of, read_history
from maskrcnn.run_folder import HISTORY, LOG, RESULTS
from maskrcnn.runtime.memory import GIBIBYTE
from maskrcnn.sentences import in_lines, printable
from maskrcnn.storage.location import Location
from maskrcnn.terminal import bare
from maskrcnn.train.window import Means


class Log:
    """The voice of a run; only the main process has one, the others are silent."""

    def __init__(
        self,
        out: Path,
        *,
        is_main: bool,
        tensorboard: bool = False,
        console: Console | None = None,
        called: Path | Location | None = None,
        begun: float | None = None,
    ) -> None:
        self.out = out
        self.called = called or out
        """What the person called that folder: an address where it is uploaded from here."""
        self.is_main = is_main
        self.console = console or Console(file=bare(sys.stdout), quiet=not is_main, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._start = time.perf_counter() if begun is None else begun
        self._writer = _summary_writer(out) if tensorboard and is_main else None
        self._waiting: dict[str, bytes] = {}
        """Lines of files for which a disk had no room: a checkpoint may yet find some, and so may they."""
        self._is_full = False

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        """End. Raises DiskFull where lines still wait for room, unless another error is on its way."""
        self.end_progress()
        if self._writer is not None:
            self._writer.close()
        with suppress(*[DiskFull] * any(error)):
            for name, lines in self._waiting.items():
                append(self.out / name, lines)

    def seconds(self) -> float:
        """Seconds since training began or went on."""
        return time.perf_counter() - self._start

    def say(self, text: str) -> None:
        """Write a line to the terminal and to log.txt."""
        if self.is_main:
            self.console.print(in_lines(text), markup=False)
            self.note(text)

    def note(self, text: str) -> None:
        """Write a line to log.txt alone."""
        if self.is_main:
            line = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {in_lines(text)}\n"
            self._append(LOG, line.encode(errors="backslashreplace"))

    def show_progress(self, done: int, total: int) -> None:
        """Open a bar on a terminal; elsewhere lines do. `mpirun` shows a terminal that need not be there."""
        if self.is_main and self.console.is_terminal and "OMPI_COMM_WORLD_RANK" not in os.environ:
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # long numbers are cut, not the bar
            numbers = TextColumn("{task.description}", markup=False, table_column=rest)
            columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn(), numbers)
            self._bar = Progress(*columns, console=self.console, expand=True)
            self._bar.add_task("", total=total, completed=done)
            self._bar.start()

    def set_total(self, total: int) -> None:
        """Tell the bar of another number of steps."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=total)

    def end_progress(self) -> None:
        """Leave the bar as it is; what is said from now on comes below it."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def ticker(self) -> Ticker:
        """What tells how far an evaluation is: beside the bar, elsewhere in a line a minute."""
        if self._bar is not None:
            return Ticker(self._describe, every=0.5)
        return Ticker(lambda sentence: self.console.print(printable(sentence), markup=False), every=60.0)

    def advance(self) -> None:
        """One more step is queued."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def steps(
        self,
        means: Means,
        *,
        step: int,
        total_steps: int,
        epoch: int,
        lr: float,
        images: int,
        memory: int | None = None,
        left: float | None = None,
    ) -> None:
        """Write the means over the steps since the last such line; `images` in each step.

        memory   the most bytes that the device held, where it counts them
        left     seconds left of a given time, evaluations and saving among them
        """
        if not self.is_main:
            return
        rate = means.steps_per_second * images
        row = {
            "step": step,
            "epoch": epoch,
            "lr": lr,
            "losses": means.losses,
            "counts": means.counts,
            "total": means.total,
            "images_per_second": rate,
            "waiting": means.waiting,
            "seconds": self.seconds(),
        }
        more = {"memory": memory, "seconds_left": left}
        self._append(HISTORY, line_of(row | {name: value for name, value in more.items() if value is not None}))
        names = "  ".join(f"{name} {value:.3f}" for name, value in means.losses.items())
        held = "" if memory is None else f"  memory {memory / GIBIBYTE:.1f} GiB"
        pace = f"lr {lr:.2e}  {rate:.1f} images/s  waiting {means.waiting:.0%}{held}"
        rest = timedelta(seconds=round((total_steps - step) / means.steps_per_second if left is None else left))
        line = f"epoch {epoch}  loss {means.total:.3f}  {pace}  {names}"  # a narrow terminal cuts off its end
        plain = f"step {step}/{total_steps}  {rest} left  {line}"
        if self._bar is None:
            self.console.print(plain, markup=False)
        else:
            self._describe(line if left is None else f"{rest} left in all  {line}")
        self.note(plain)
        if self._writer is not None:
            scalars = {"lr": lr, "total": means.total, "images_per_second": rate, "waiting": means.waiting}
            for name, value in {**scalars, **means.losses, **means.counts}.items():
                self._writer.add_scalar(f"train/{name}", value, step)

    def evaluation(self, metrics: Mapping[str, Any], *, step: int, epoch: int) -> None:
        """Write the scores of one evaluation; `results.csv` is written anew with a row for each."""
        if not self.is_main:
            return
        scores = headline(metrics)
        self._append(HISTORY, line_of({"step": step, "epoch": epoch, "evaluation": scores}))
        with self._going_on():
            _write_results(self.out / RESULTS, evaluations(self.out))
        quality = "  ".join(f"{TITLES[kind]} AP {percent(values['AP'])}" for kind, values in scores.items())
        self.say(f"epoch {epoch}  {quality}")
        if self._writer is not None:
            for kind, values in scores.items():
                for name, value in values.items():
                    if value is not None:
                        self._writer.add_scalar(f"{kind}/{name}", value, step)

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps that are going to be trained again."""
        path = self.out / HISTORY
        if self.is_main and path.is_file():
            rows = [row for row in read_history(self.out / HISTORY) if row["step"] <= step]
            with atomic_write(path) as draft:
                draft.write_bytes(b"".join(map(line_of, rows)))
            _write_results(self.out / RESULTS, evaluations(self.out))

    def _describe(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text)

    def _append(self, name: str, content: bytes) -> None:
        """Add to a file of the run; where the disk is full, what was to be added waits and training goes on."""
        waiting = self._waiting.pop(name, b"") + content
        with self._going_on():
            self._waiting[name] = waiting
            append(self.out / name, waiting)
            del self._waiting[name]

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Tell of a full disk, once, where that ends nothing."""
        try:
            yield
        except DiskFull as full:
            if not self._is_full:
                self.console.print(f"{full}; training goes on, and tries again", markup=False)
            self._is_full = True


def evaluations(out: Path) -> list[dict[str, Any]]:
    """The evaluations of a run so far, oldest first."""
    return [row for row in read_history(out / HISTORY) if "evaluation" in row]


def quality(scores: Mapping[str, Any]) -> float:
    """What `best` means: mask AP, box AP where no masks were scored; 0 where there was nothing to score."""
    return (scores.get("segm") or scores["bbox"])["AP"] or 0.0


def is_stale(history: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` evaluations were no better than the best before them; a run that has found nothing
    yet, whose best is 0, is not stale.

    >>> is_stale([0.1, 0.3, 0.3, 0.2], 2), is_stale([0.1, 0.3, 0.2], 2), is_stale([0.0, 0.0, 0.0], 2)
    (True, False, False)
    """
    best = max(history, default=0.0)
    return bool(patience and best) and len(history) - 1 - history.index(best) >= patience


def _write_results(path: Path, rows: list[dict[str, Any]]) -> None:
    flat = [
        {"step": row["step"], "epoch": row["epoch"]}
        | {f"{kind}/{name}": value for kind, scores in row["evaluation"].items() for name, value in scores.items()}
        for row in rows
    ]
    with atomic_write(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(flat[0]) if flat else ["step", "epoch"])
        writer.writeheader()
        writer.writerows(flat)


def _summary_writer(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("train.tensorboard needs the package tensorboard: pip install tensorboard") from error
    return SummaryWriter(str(out / "tensorboard"))
