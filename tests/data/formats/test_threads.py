"""What threads meet is told in the order of the files, whichever is looked at first."""

from threading import Event

from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.threads import look_at

SLOW, QUICK = (Kind(name, "files", Severity.NOTE, f"are {name}") for name in ("slow", "quick"))


def test_a_file_that_takes_long_is_told_in_its_turn():
    last_is_done = Event()

    def look(number: int, faults: Faults) -> int:
        if number == 0:
            assert last_is_done.wait(10)
        faults.add(SLOW if number == 0 else QUICK, f"file {number}")
        if number == 6:
            last_is_done.set()
        return number

    faults = Faults()
    assert list(look_at(range(7), look, faults)) == list(range(7))
    assert [(fault.kind, fault.examples[0]) for fault in faults] == [(SLOW, "file 0"), (QUICK, "file 1")]
