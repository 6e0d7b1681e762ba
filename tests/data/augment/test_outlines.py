"""A mask that is drawn, then augmented, equals its outline that is augmented, then drawn."""

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from maskrcnn.config import Augment, Data
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.augment.geometry import Objects, sizes_in_training
from maskrcnn.data.augment.levels import resolve
from maskrcnn.data.buckets import buckets_for, plan_epoch, whole_images
from maskrcnn.data.feeder import micro_batch_maker
from maskrcnn.data.formats import coco
from maskrcnn.data.loader import Loader, make_batch
from maskrcnn.data.transforms import RawBatch, resize_targets, to_pixels
from maskrcnn.ops.rasterize import rasterize
from maskrcnn.structures import Targets
from maskrcnn.view import View, cuts

CPU = torch.device("cpu")
PLAIN = Data(mean=(0.0,), std=(1.0,))
SIZES = [(60, 90), (90, 64), (48, 80), (70, 70), (60, 88), (50, 64), (77, 51), (64, 96)]
ALL = Augment(scale=(0.4, 2.0), whole_objects=0.5, angle=30.0, flip_vertical=0.5, quarter_turns=True)


def shape(random, height, width):
    """Directed edges of a wavy ring with a wavy hole, inside the image."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    centre, radius = random.uniform(0.45, 0.55, 2) * (width, height), random.uniform(0.25, 0.35) * min(height, width)
    rings = []
    for size, way in ((1, 1), (0.4, -1)):
        waves = sum(random.normal(0, 0.07) * np.cos(k * angle + random.uniform(0, 6)) for k in (2, 3, 5))
        points = centre + (size * radius * (1 + waves) * np.stack([np.cos(angle), np.sin(angle)])).T[::way]
        rings.append(np.concatenate([points, np.roll(points, -1, 0)], 1))
    return torch.from_numpy(np.concatenate(rings)).float()


def targets_of(edges):
    """One object for each image, whose box is that of its edges."""
    count, number, _ = edges.shape
    points = edges.unflatten(2, (2, 2)).flatten(1, 2)
    yes = torch.ones(count, 1, dtype=torch.bool)
    first = torch.tensor([[0, number]] * count)
    return Targets(torch.cat([points.amin(1), points.amax(1)], 1)[:, None], yes.long(), ~yes, yes, edges, first)


def drawn(targets, image, item, height, width):
    side = max(height, width)
    box = torch.tensor([[0.0, 0.0, side, side]])
    found = rasterize(targets.edges, targets.first_edge, box, torch.tensor([image]), torch.tensor([item]), size=side)
    return found[0, :height, :width]


def random_views(random, count, height, width, angles):
    sides = random.uniform(0.4, 1.3, (count, 1)) * (width, height)
    low = random.uniform(-0.2, 0.6, (count, 2)) * (width, height)
    windows = torch.from_numpy(np.concatenate([low, low + sides], 1)).float()
    turns = torch.from_numpy(random.integers(0, 4, count))
    extents = np.rint(sides * random.uniform(0.5, 1.3, (count, 1))).astype(np.int64)
    sizes = torch.where((turns % 2 == 1)[:, None], torch.from_numpy(extents), torch.from_numpy(extents[:, ::-1].copy()))
    mirrored = torch.from_numpy(random.integers(0, 2, count) == 1)
    degrees = torch.from_numpy(random.uniform(-180, 180, count)).float() if angles else None
    return View(windows, sizes.clamp(max=512), mirrored, turns, degrees)


@pytest.mark.parametrize("angles", [False, True])
def test_masks_drawn_then_augmented_are_outlines_augmented_then_drawn(angles):
    random, count, height, width = np.random.default_rng(3), 60, 240, 320
    targets = targets_of(torch.stack([shape(random, height, width) for _ in range(count)]))
    masks = torch.stack([drawn(targets, image, 0, height, width) for image in range(count)])
    view = random_views(random, count, height, width, angles)
    raw = torch.tensor([[height, width]] * count)
    pixels = to_pixels((255 * masks).byte()[..., None], raw, view, (512, 512), PLAIN)[:, 0] > 127.5
    found = resize_targets(targets, view, cuts(view, raw))
    agreed = 0
    for image, (rows, columns) in enumerate(view.sizes.tolist()):
        first, second = pixels[image, :rows, :columns], drawn(found, image, 0, rows, columns) > 0
        area = int(second.sum())
        if area < 2000:
            continue
        agreed += 1
        assert int((first & second).sum()) >= 0.98 * int((first | second).sum())
        if angles or bool(cuts(view, raw)[image]):
            across, down = second.any(0).nonzero()[:, 0], second.any(1).nonzero()[:, 0]
            box = torch.tensor([across[0], down[0], across[-1] + 1, down[-1] + 1])
            assert (found.boxes[image, 0] - box).abs().max() < 2.5, "boxes are those of the drawn masks"
    assert agreed >= 30


def test_boxes_stay_as_annotated_where_objects_are_seen_whole_and_upright():
    edges = torch.tensor([[[10.0, 10.0, 30.0, 10.0], [30.0, 10.0, 30.0, 30.0], [30.0, 30.0, 10.0, 10.0]]] * 3)
    loose = targets_of(edges)._replace(boxes=torch.tensor([[[8.0, 7.0, 33.0, 32.0]]] * 3))
    windows = torch.tensor([[0.0, 0.0, 60.0, 40.0], [5.0, 5.0, 45.0, 35.0], [20.0, 0.0, 60.0, 40.0]])
    sizes = (windows[:, 2:] - windows[:, :2]).flip(1).long()
    view = View(windows, sizes, torch.zeros(3, dtype=torch.bool))
    cut = cuts(view, torch.tensor([[40, 60]] * 3))
    assert cut.tolist() == [False, True, True]
    boxes = resize_targets(loose, view, cut).boxes[:, 0]
    assert boxes[:2].tolist() == [[8, 7, 33, 32], [3, 2, 28, 27]]
    assert boxes[2].tolist() == [0, 10, 10, 30], "what is seen of the outline"
    assert torch.equal(resize_targets(loose, view).boxes[0], boxes[None, 0]), "a batch with cut images changes no other"


def test_crowds_at_an_angle_are_surrounded_and_cut_to_the_view():
    crowd = Targets(
        boxes=torch.tensor([[[10.0, 10.0, 30.0, 30.0]]]),
        labels=torch.ones(1, 1, dtype=torch.long),
        crowd=torch.ones(1, 1, dtype=torch.bool),
        valid=torch.ones(1, 1, dtype=torch.bool),
        edges=torch.zeros(1, 4, 4),
        first_edge=torch.zeros(1, 2, dtype=torch.long),
    )
    view = View(torch.tensor([[0.0, 0.0, 40.0, 40.0]]), torch.tensor([[40, 40]]), torch.tensor([False]))
    tilted = view._replace(angles=torch.tensor([45.0]))
    found = resize_targets(crowd, tilted, torch.tensor([True]))
    half = 10 * 2**0.5
    assert found.boxes[0, 0].tolist() == pytest.approx([20 - half, 20 - half, 20 + half, 20 + half], abs=1e-4)
    beside = view._replace(windows=torch.tensor([[20.0, 0.0, 60.0, 40.0]]))
    assert resize_targets(crowd, beside, torch.tensor([True])).boxes[0, 0].tolist() == [0, 10, 10, 30]
    assert not resize_targets(crowd, beside._replace(windows=beside.windows + 20), torch.tensor([True])).valid.any()


@pytest.fixture
def data(write_split, annotate):
    rows = [annotate(10 * image + k, image, iscrowd=int(k == 2)) for image in range(1, 9) for k in range(image)]
    return coco.read(*write_split(rows, sizes=SIZES))


def recipe(augment, fit="sides", workers=0):
    return Data(short_sides=(48, 64), max_side=96, num_buckets=2, fit=fit, augment=augment, num_workers=workers)


def steps_of(data, settings, batch=4):
    buckets = buckets_for(sizes_in_training(data.sizes, resolve(settings.augment)), settings, settings.short_sides)
    objects = Objects.of(data)
    return plan_epoch(whole_images(data.sizes), settings, buckets, batch=batch, seed=1, epoch=0, objects=objects)


def tensors(batches):
    return [leaf for leaf in tree_leaves(batches) if leaf is not None]


def made(data, settings, **options):
    """Every micro-batch of an epoch."""
    make = micro_batch_maker(AnnotationStore(data, CPU), CPU, settings, one_shape=True)
    return [make(raw) for raw in Loader(data, steps_of(data, settings), settings, **options)]


@pytest.mark.parametrize("fit", ["sides", "box"])
def test_two_workers_give_what_four_do_and_a_repeat_the_same_bits(data, fit):
    found = [made(data, recipe(ALL, fit, workers)) for workers in (2, 4, 4, 0)]
    for others in found[1:]:
        assert len(others) == len(found[0])
        assert all(map(torch.equal, tensors(others), tensors(found[0])))


def test_a_sample_is_the_same_whichever_process_has_it(data):
    settings = recipe(ALL)
    together = made(data, settings)
    for rank in (0, 1):
        for whole, part in zip(together, made(data, settings, rank=rank, world_size=2), strict=True):
            share = slice(2 * rank, 2 * rank + 2)
            assert torch.equal(whole.images.pixels[share], part.images.pixels)
            assert all(
                torch.equal(a[share], b) for a, b in zip(tensors(whole.targets), tensors(part.targets), strict=True)
            )


def test_without_augmentation_targets_and_pixels_are_those_of_whole_views(data):
    settings = recipe(Augment())
    for step, batch in zip(steps_of(data, settings), made(data, settings), strict=True):
        raw: RawBatch = make_batch(data, step, settings)
        assert not cuts(raw.view, raw.original_sizes).any()
        found = AnnotationStore(data, CPU)
        plain = resize_targets(found.gather(raw.indices, found.padding()), raw.view)
        assert all(map(torch.equal, tensors(plain), tensors(batch.targets)))
        pixels = to_pixels(
            raw.images, raw.raw_sizes, raw.view.rescaled(raw.original_sizes, raw.raw_sizes), raw.bucket, settings
        )
        assert torch.equal(pixels, batch.images.pixels)


def test_some_objects_of_cut_images_are_lost_and_none_reaches_beyond_its_view(data):
    settings = recipe(Augment(scale=(2.0, 4.0)))
    found = made(data, settings)
    kept = sum(int(batch.targets.valid.sum()) for batch in found)
    assert 0 < kept < sum(int(batch.targets.valid.sum()) for batch in made(data, recipe(Augment())))
    for batch in found:
        limit = batch.images.sizes.flip(1).repeat(1, 2)[:, None]
        assert ((batch.targets.boxes >= 0) & (batch.targets.boxes <= limit)).all()
