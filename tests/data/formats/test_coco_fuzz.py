"""Whatever a file says, it is read, or one sentence says why not."""

import time
import warnings
from random import Random

import pytest

from maskrcnn.data.dataset import summary
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import coco

from . import fuzz

SLOW = 5.0
"""Seconds that no file may take."""
LONGEST = 2000
"""Characters of a sentence."""


def read(paths, faults=None):
    """The data, or the error that is told."""
    try:
        return coco.read(*paths, faults), None
    except (ValueError, OSError) as error:
        return None, error


def check(seed, folder):
    paths, faults = fuzz.coco(Random(seed), folder), Faults()
    (strict, refusal), (lenient, failure) = read(paths), read(paths, faults)
    for error in (refusal, failure):
        assert error is None or type(error) in (ValueError, FileNotFoundError), repr(error)
        assert "\n" not in str(error)
        assert len(str(error)) < LONGEST
    assert all(len(str(fault)) < LONGEST for fault in faults)
    if lenient is None:
        assert strict is None
        return
    assert summary(lenient)
    again = folder / "again.json"
    coco.write(lenient, again)
    assert coco.read(again, paths[1]).labels.tolist() == lenient.labels.tolist()


@pytest.mark.parametrize("seeds", [range(200), pytest.param(range(200, 10_000), marks=pytest.mark.exhaustive)])
def test_a_malformed_file_is_read_or_named_and_what_is_left_of_it_can_be_read_again(seeds, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in seeds:
            begin = time.monotonic()
            try:
                check(seed, tmp_path)
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            assert time.monotonic() - begin < SLOW, f"seed {seed}"
