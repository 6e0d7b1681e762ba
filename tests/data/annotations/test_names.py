import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.annotations.names import Names


@settings(deadline=None)
@given(st.lists(st.text()))
def test_names_come_back_however_they_are_asked_for(words):
    names = Names.pack(words)
    assert len(names) == len(words)
    assert list(names) == words == [names[place] for place in range(len(words))]
    assert names == words
    assert names.encoded() == [word.encode() for word in words]
    assert names[1:3] == words[1:3]


def test_places_count_from_either_end_and_may_be_numbers_of_numpy():
    names = Names.pack(["a.png", "", "höhe/1.png"])
    assert (names[np.int64(2)], names[-1], names[-3]) == ("höhe/1.png", "höhe/1.png", "a.png")
    with pytest.raises(IndexError):
        names[3]


def test_other_names_are_not_equal():
    assert Names.pack(["a", "bc"]) != ["ab", "c"]
    assert Names.pack([]) != 0
