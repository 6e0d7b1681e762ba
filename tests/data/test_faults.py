import re

import pytest

from maskrcnn.data.faults import Fault, Kind, Severity
from maskrcnn.data.health.document import kinds
from maskrcnn.sentences import counted

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
