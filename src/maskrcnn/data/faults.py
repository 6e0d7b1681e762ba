"""Faults of data sets: what can be wrong, how bad that is, and what mends it.

Readers report what they meet to `Faults`; a run refuses what cannot be learnt or scored, and `maskrcnn data check`
lists everything.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Lock

from maskrcnn.files import by_archive
from maskrcnn.sentences import counted, shortened, some_of

EXAMPLES = 5
"""Number of names that are kept of each kind of fault."""
MOST_OF_NAME, MOST_OF_SENTENCE = 160, 1200
"""Characters that are kept of each: a file's own text may be of any length."""


class Severity(StrEnum):
    """How bad a fault is."""

    NOTE = "note"
    """There is one meaning, and it was read."""
    WARNING = "warning"
    """It can be read, but may not be what was meant."""
    REFUSED = "refused"
    """Training and evaluation stop."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    """Identifier that reports and `--json` use, such as `image-id-twice`."""
    noun: str
    """What has it, in the plural: images, objects, categories, files."""
    severity: Severity
    claim: str
    """What is said of them, after the noun: `have no id; they are numbered`; `counted` makes it fit a single one."""
    repair: str = ""
    """What `maskrcnn data check --fix` does about it; empty where only a person can."""


@dataclass
class Fault:
    """One kind of fault as it was met in one place."""

    kind: Kind
    count: int = 0
    examples: list[str] = field(default_factory=list)
    """The first that have it, such as `annotation 7 of image 3`."""
    sentence: str = ""
    """What is wrong with the first one, in full, and what to do; empty where the claim says all."""

    def __str__(self) -> str:
        """The fault in one line.

        >>> str(Fault(Kind("no-id", "objects", Severity.NOTE, "have no id; they are numbered"), 2, ["a", "b"]))
        '2 objects have no id; they are numbered: a, b'
        """
        rest = [*self.examples, *[""] * (self.count - len(self.examples))]
        shown = f": {some_of(rest, len(self.examples))}" if self.examples else ""
        return counted(self.count, f"{self.kind.noun} {self.kind.claim}") + shown


class Faults:
    """What was met while a split was read, each kind once. Threads may report at the same time."""

    def __init__(self) -> None:
        self._found: dict[Kind, Fault] = {}
        self._lock = Lock()

    def add(self, kind: Kind, who: str | Iterable[str] = (), sentence: str = "", *, count: int | None = None) -> None:
        """Report a fault.

        who        who has it, one or many, such as `annotation 7 of image 3`
        sentence   for the first: what was expected, what came, and what to do
        count      number of those that have it; without one the number of names
        """
        names = [by_archive(name) for name in ([who] if isinstance(who, str) else who)]
        if not (len(names) if count is None else count):
            return
        with self._lock:
            fault = self._found.setdefault(
                kind, Fault(kind, sentence=shortened(by_archive(sentence), MOST_OF_SENTENCE))
            )
            fault.count += len(names) if count is None else count
            fault.examples += [shortened(name, MOST_OF_NAME) for name in names[: EXAMPLES - len(fault.examples)]]

    def take(self, others: "Faults") -> None:
        """Take over what was reported to others, such as those of one thread."""
        for fault in others:
            self.add(fault.kind, fault.examples, fault.sentence, count=fault.count)

    def __iter__(self) -> Iterator[Fault]:
        """The worst first, else in the order in which they were met."""
        order = list(reversed(Severity))
        return iter(sorted(self._found.values(), key=lambda fault: order.index(fault.kind.severity)))

    def notes(self) -> tuple[str, ...]:
        """What a person should know of data that can be read."""
        return tuple(str(fault) for fault in self if fault.kind.severity is not Severity.REFUSED)

    def refuse(self, path: Path) -> None:
        """Raise ValueError, naming the file, where something was met that training and evaluation refuse."""
        for fault in self:
            if fault.kind.severity is Severity.REFUSED:
                more = f" ({fault.count} such {fault.kind.noun} in all)" if fault.count > 1 else ""
                raise ValueError(f"{by_archive(str(path))}: {fault.sentence or fault}{more if fault.sentence else ''}")
