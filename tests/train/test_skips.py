"""Images that could not be read: counted over all processes, listed in the run, and bounded."""

import json

import msgspec
import torch

from maskrcnn.data.transforms import RawBatch
from maskrcnn.runtime.distributed import World
from maskrcnn.train.skips import Skip, Skips


class WithAnother(World):
    """The first of two processes; the other one had to skip an image, too."""

    def gather_bytes(self, content):
        return [content, msgspec.json.encode([Skip(7, "b.png", "b.png is cut short")])]

    def from_main(self, numbers):
        return list(numbers)


ALONE = World(torch.device("cpu"))


def raw(*names):
    unread = tuple((name, f"{name} is cut short") for name in names)
    return RawBatch(*[None] * 7, bucket=(64, 96), unread=unread)


def test_what_several_processes_skip_is_one_list_and_the_budget_is_of_all(tmp_path):
    skips = Skips(tmp_path, most=2, step=0)
    assert skips.add([raw("a.png"), raw()], 7, WithAnother(torch.device("cpu"), 0, 2)) == ""
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert lines == [{"step": 7, "image": name, "why": f"{name} is cut short"} for name in ("a.png", "b.png")]
    said = skips.add([raw("c.png")], 8, WithAnother(torch.device("cpu"), 0, 2))
    assert said == "3 images could not be read, data.skip_unreadable allows 2, the last one: c.png is cut short"


def test_an_image_counts_once_and_is_told_once(tmp_path):
    skips = Skips(tmp_path, most=1, step=0)
    assert skips.notes() == []
    for step in (1, 6):
        assert skips.add([raw("a.png")], step, ALONE) == ""
    (note,) = skips.notes()
    assert note.startswith("1 image could not be read, and training goes on without: a.png; 1 of at most 1 by now")
    assert skips.notes() == []


def test_a_run_that_goes_on_counts_what_was_skipped_before_its_checkpoint(tmp_path):
    skips = Skips(tmp_path, most=9, step=0)
    for step, name in ((2, "a.png"), (5, "b.png")):
        skips.add([raw(name)], step, ALONE)
    resumed = Skips(tmp_path, most=1, step=4)
    assert resumed.add([raw("a.png")], 5, ALONE) == ""
    assert "2 images" in resumed.add([raw("c.png")], 5, ALONE)
    assert [json.loads(line)["image"] for line in (tmp_path / "skipped.jsonl").read_text().splitlines()] == [
        "a.png",
        "c.png",
    ]
