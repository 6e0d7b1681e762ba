import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.masks import bitmap_from_counts, counts_from_string, string_from_counts

coco = pytest.importorskip("pycocotools.mask")


@given(st.lists(st.integers(0, 2**32 - 1), max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_run_lengths_survive_the_string(counts):
    assert counts_from_string(string_from_counts(counts)).tolist() == counts


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_strings_of_plain_run_lengths_equal_those_of_pycocotools(counts):
    theirs = coco.frPyObjects({"size": [1, sum(counts)], "counts": counts}, 1, sum(counts))
    assert string_from_counts(counts).encode() == theirs["counts"]


def test_compressed_masks_of_the_official_results_survive_unchanged(shared_data):
    path = shared_data / "coco_golden" / "instances_val2014_fakesegm100_results.json"
    for entry in json.loads(path.read_text())[:200]:
        (height, width), string = entry["segmentation"]["size"], entry["segmentation"]["counts"]
        counts = counts_from_string(string)
        assert string_from_counts(counts) == string
        assert np.array_equal(bitmap_from_counts(counts, height, width), coco.decode(entry["segmentation"]))


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("52 3", "at 2: the characters"),
        ("52é", "at 2: the characters"),
        (b"52\xff", "at 2: the characters"),
        ("52p", "at 2: the characters"),
        ("52Q", "at 3: the string ends within a run"),
        ("5N", "at 1: .* negative"),
        ("ooooooooooooo1", "at 7: .* larger"),
        ("oooooo?", "at 6: .* larger"),
    ],
)
def test_a_malformed_string_is_refused_with_the_place_of_its_fault(string, message):
    with pytest.raises(ValueError, match=message):
        counts_from_string(string)
