import re

import pytest

from maskrcnn.data.faults import Fault, Faults, Kind, Severity
from maskrcnn.data.health.document import kinds
from maskrcnn.sentences import counted

NAMELESS = Kind("nameless", "files", Severity.REFUSED, "have no name")
NO_ID = Kind("no-id", "image ids", Severity.NOTE, "are text with a spelling of their own; they are kept")


def test_a_fault_speaks_of_one_thing_as_of_one():
    assert str(Fault(NO_ID, 1, ["a"])) == "1 image id is text with a spelling of its own; it is kept: a"
    assert (
        str(Fault(NO_ID, 2, ["a"])) == "2 image ids are text with a spelling of their own; they are kept: a and 1 more"
    )


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_every_kind_of_fault_can_be_said_of_one(kind):
    told = counted(1, f"{kind.noun} {kind.claim}")
    assert not re.search(r"\b(are|were|have|do|they|them|their)\b", told)
    noun = told.removeprefix("1 ").split()[: kind.noun.count(" ") + 1]
    verb = told.removeprefix("1 ").split()[len(noun)].strip(",")
    assert not noun[-1].endswith("s") or noun[-1].endswith("ss")
    assert verb.endswith("s") or verb == "cannot"


def test_what_a_file_says_at_length_is_not_repeated_at_length():
    faults = Faults()
    faults.add(NAMELESS, "9" * 5000, f"an image {'9' * 5000} is missing; restore it")
    [fault] = faults
    assert len(fault.examples[0]) < 200
    assert len(fault.sentence) < 1300
    assert fault.sentence.endswith("9 is missing; restore it")


def test_what_is_told_has_one_line():
    faults = Faults()
    faults.add(NAMELESS, "a\nb", "a\nb is missing")
    [fault] = faults
    assert (fault.examples, fault.sentence) == (["a b"], "a b is missing")
