"""Pipes in the place of files: opening one would wait for ever."""

import os

import pytest

from maskrcnn.data.division import read_split_file
from maskrcnn.data.formats import coco
from maskrcnn.data.recognise import recognise
from maskrcnn.evaluate.results import read as read_results


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among files")
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "a.json")
    told = "it is a pipe, a socket or a device"
    with pytest.raises(OSError, match=told):
        coco.read(*coco.find_split(tmp_path, "images", "a.json"))
    with pytest.raises(FileNotFoundError, match=told):
        recognise(tmp_path / "a.json")
    with pytest.raises(ValueError, match=told):
        read_results(tmp_path / "a.json")
    with pytest.raises(OSError, match=told):
        read_split_file(tmp_path / "a.json")
