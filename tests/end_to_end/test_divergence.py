"""A run whose losses explode: what is kept of it, and how a person goes on."""

import re

import pytest
import torch

from maskrcnn.config import Optimizer, Recipe, Schedule
from maskrcnn.data.shapes import generate
from maskrcnn.train import checkpoint, loop
from tests.end_to_end.test_training import rows, tiny


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield generate(tmp_path_factory.mktemp("data") / "shapes", num_train=4, num_val=1, seed=3, side=64)
    torch.set_num_threads(threads)


def recipe(shapes, lr: float, epochs: int) -> Recipe:
    """A step in an epoch, and a checkpoint after every second."""
    settings = {"optimizer": Optimizer(kind="adamw", lr=lr, lr_batch=4), "schedule": Schedule(warmup_steps=2)}
    return tiny(shapes, epochs=epochs, checkpoint_every=2, **settings)


def test_a_run_that_exploded_keeps_a_checkpoint_from_before_and_goes_on_from_it_in_its_folder(shapes, tmp_path):
    out = tmp_path / "run"
    loop.run(recipe(shapes, 0.001, 6), out)
    with pytest.raises(FloatingPointError) as caught:
        loop.run(recipe(shapes, 1e5, 40), out, "auto")
    way = re.search(r"; (step-\d+) is from before, --resume (\S+) --out \S+ goes on from it", str(caught.value))
    assert way is not None, caught.value
    kept = out / "checkpoints" / way[1]
    assert checkpoint.read(kept).state["loss"] < 10
    if way[2] == "auto":
        assert checkpoint.find(out / "checkpoints")[0] == kept
    loop.run(recipe(shapes, 0.001, 8), out, way[2])
    assert checkpoint.find(out / "checkpoints")[0].name == "step-8"
    assert [row["step"] for row in rows(out) if "losses" in row] == list(range(1, 9))
    assert all(row["total"] < 10 for row in rows(out) if "losses" in row)


def test_a_run_that_explodes_before_its_first_checkpoint_says_so_and_calls_none_sound(shapes, tmp_path):
    loop.run(recipe(shapes, 1e3, 6), tmp_path / "run")
    told = (tmp_path / "run" / "log.txt").read_text()
    assert told.count("the losses had grown before step-2: ") == 1
    assert told.count("there is no checkpoint from before; begin anew with another --out") == 1
