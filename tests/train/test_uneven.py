"""Shares of a batch that differ, in images and in objects, together are the whole batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.augment.geometry import Objects
from maskrcnn.data.buckets import plan_epoch
from maskrcnn.data.dataset import keep_objects
from maskrcnn.data.feeder import micro_batch_maker
from maskrcnn.data.loader import Loader
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import open_split
from maskrcnn.evaluate import run
from maskrcnn.models.mask_rcnn import build
from maskrcnn.recipes import read_recipe
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.precision import Precision
from maskrcnn.train.plan import plan_steps, share_out
from maskrcnn.train.step import Updater

CPU = torch.device("cpu")
TINY = Path(__file__).parents[1] / "tiny.yml"


class Told(World):
    """One of some processes, each of which is run after the other: it keeps what it gives, and gets what they gave."""

    def all_reduce_mean(self, tensors):
        self.__dict__["shared"] = [tensor.clone() for tensor in tensors]

    def gather_bytes(self, content):
        self.__dict__["content"] = content
        return [content, *self.__dict__.get("others", [])] if self.is_main else []


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    shapes = generate(tmp_path_factory.mktemp("data") / "shapes", num_train=4, num_val=1, seed=3, side=64)
    recipe = read_recipe(str(TINY), [f"data.dataset_dir={shapes}", "data.num_workers=0"])
    head = structs.replace(recipe.model.mask_head, num_rois=32)  # every positive has a slot
    return structs.replace(recipe, model=structs.replace(recipe.model, mask_head=head))


def without_objects(data, images):
    """The data, of which some images show nothing."""
    owners = np.repeat(np.arange(len(data.image_ids)), np.diff(data.first_object))
    return keep_objects(data, ~np.isin(owners, images))


def gradients(recipe, data, num_processes, micro_batch=0):
    """What each process gives to the others in the first step: gradients of all parameters, and means of losses."""
    settings = structs.replace(recipe.train, micro_batch=micro_batch)
    plan = plan_steps(recipe, data, share_out(settings, num_processes))
    steps = plan_epoch(plan.samples, recipe.data, plan.buckets, batch=4, seed=0, epoch=0, objects=Objects.of(data))
    make = micro_batch_maker(AnnotationStore(data, CPU), CPU, recipe.data, one_shape=False)
    shared = []
    for rank in range(num_processes):
        torch.manual_seed(0)
        model, world = build(recipe.model, len(data.category_ids), 3).train(), Told(CPU, rank, num_processes)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        update = Updater(model, optimizer, world=world, precision=Precision("cpu", torch.float32), batch=4)
        kwargs = {"rank": rank, "world_size": num_processes, "micro_batch": plan.shares.images}
        losses = update([make(raw) for raw in Loader(data, steps, recipe.data, **kwargs)])
        assert dict(zip(losses.names, losses.mean.tolist(), strict=True))["count/masks_left_out"] == 0
        shared.append(world.shared)
    return [torch.stack(tensors).mean(0) for tensors in zip(*shared, strict=True)]


@pytest.mark.parametrize("empty", [[0, 1], [1, 2, 3]])
@pytest.mark.parametrize(("processes", "micro_batch"), [(3, 0), (2, 1)])
def test_their_gradient_is_that_of_the_whole_batch(recipe, empty, processes, micro_batch):
    data = without_objects(open_split(recipe.data, "train"), empty)
    assert [count == 0 for count in np.diff(data.first_object)] == [image in empty for image in range(4)]
    whole, shares = gradients(recipe, data, 1), gradients(recipe, data, processes, micro_batch)
    scale = max(one.abs().max() for one in whole[:-1])
    for one, other in zip(whole[:-1], shares[:-1], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6 * scale.item())
    torch.testing.assert_close(shares[-1], whole[-1], rtol=1e-4, atol=1e-5)


def test_results_of_processes_of_which_some_have_no_image_are_joined_once_and_in_order(recipe, tmp_path):
    recipe = structs.replace(recipe, evaluate=structs.replace(recipe.evaluate, batch=1))
    for split in ("val", "train"):  # of one image, and of four
        data = open_split(recipe.data, split)
        torch.manual_seed(0)
        model = build(recipe.model, len(data.category_ids), 3)
        mine = structs.replace(recipe, classes=data.category_names, category_ids=data.category_ids)
        alone = run.evaluate(model, data, mine, World(CPU), tmp_path / "alone")
        worlds = [Told(CPU, rank, 3) for rank in range(3)]
        for world in worlds[1:]:
            assert run.evaluate(model, data, mine, world, tmp_path) == {}
        worlds[0].__dict__["others"] = [world.content for world in worlds[1:]]
        joined = run.evaluate(model, data, mine, worlds[0], tmp_path / "joined")
        assert (joined["bbox"], joined["segm"]) == (alone["bbox"], alone["segm"])
        assert joined["speed"]["images"] == len(data.image_ids)
        files = [(tmp_path / name / "predictions.json").read_bytes() for name in ("alone", "joined")]
        assert files[0] == files[1]
