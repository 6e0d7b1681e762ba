from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from maskrcnn.data.augment.copy_paste import paste
from maskrcnn.masks import edges_from_rings, rings_from_polygons
from maskrcnn.ops.visible import draw_targets
from maskrcnn.structures import ImageBatch, MicroBatch, Targets

BUCKET = 96, 128


def batch_of(pictures, sizes, *, crowd=(), seed=0, slots=4):
    """Images of one value each, 1, 2, ..., with objects given as polygons; their boxes surround what is inside."""
    pixels = torch.zeros(len(pictures), 3, *BUCKET)
    boxes, edges, first = (
        torch.zeros(len(pictures), slots, 4),
        [],
        torch.zeros(len(pictures), slots + 1, dtype=torch.long),
    )
    for number, (polygons, (height, width)) in enumerate(zip(pictures, sizes, strict=True)):
        pixels[number, :, :height, :width] = number + 1
        own = [torch.from_numpy(edges_from_rings(rings_from_polygons([polygon]))) for polygon in polygons]
        first[number, 1:] = torch.tensor(np.cumsum([len(part) for part in own] + [0] * (slots - len(own))))
        edges.append(torch.cat([*own, torch.zeros(64 - int(first[number, -1]), 4)]))
        for slot, polygon in enumerate(polygons):
            x, y = np.array(polygon, np.float32).reshape(-1, 2).T
            box = [x.min().clip(0), y.min().clip(0), x.max().clip(max=width), y.max().clip(max=height)]
            boxes[number, slot] = torch.tensor(box)
    valid = torch.arange(slots) < torch.tensor([[len(polygons)] for polygons in pictures])
    crowds = torch.zeros_like(valid)
    for number, slot in crowd:
        crowds[number, slot] = True
    labels = torch.arange(1, slots + 1) * valid
    targets = Targets(boxes, labels, crowds, valid, torch.stack(edges), first)
    images = ImageBatch(pixels.contiguous(memory_format=torch.channels_last), torch.tensor(sizes).float())
    return MicroBatch(images, targets, torch.arange(len(pictures)) + 1000 * seed)


def rectangle(x1, y1, x2, y2):
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def bitmap(edges):
    """The pixels of the bucket inside an outline: winding numbers of their centres, in float64."""
    rows, columns = np.mgrid[: BUCKET[0], : BUCKET[1]] + 0.5
    winding = np.zeros(BUCKET, int)
    for x1, y1, x2, y2 in edges.numpy().astype(np.float64):
        if y1 != y2:
            crosses = (min(y1, y2) <= rows) & (rows < max(y1, y2))
            winding += crosses * (x1 + (rows - y1) * (x2 - x1) / (y2 - y1) <= columns) * (1 if y2 > y1 else -1)
    return winding != 0


def bitmaps(batch, number):
    first = batch.targets.first_edge[number].tolist()
    return [bitmap(batch.targets.edges[number, a:b]) for a, b in pairwise(first)]


def inside(batch, *numbers):
    height, width = batch.images.sizes[list(numbers)].amin(0).int().tolist()
    mask = np.zeros(BUCKET, bool)
    mask[:height, :width] = True
    return mask


def visible(batch, number, slot):
    """What the mask head is given of an object, on all pixels of the bucket."""
    box, at = torch.tensor([[0.0, 0.0, 128.0, 128.0]]), torch.tensor([number])
    return draw_targets(batch.targets, box, at, torch.tensor([slot]), 128)[0, : BUCKET[0]].numpy() > 0


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def test_a_pasted_rectangle_hides_what_lies_below_it():
    batch = batch_of([[rectangle(10, 20, 50, 60)], [rectangle(30, 10, 70, 90)]], [(90, 110), (90, 110)])
    found = paste(batch, 1.0)
    assert found.images.pixels[0, 0, 20:60, 10:30].unique().tolist() == [1]
    assert found.images.pixels[0, 0, 10:90, 30:70].unique().tolist() == [2]
    assert found.images.pixels[1, 0, 20:60, 10:50].unique().tolist() == [1]
    boxes, labels, crowd, valid = found.targets[:4]
    assert boxes[0, [0, 4]].tolist() == [[10, 20, 30, 60], [30, 10, 70, 90]]
    assert boxes[1, [0, 4]].tolist() == [[30, 10, 70, 90], [10, 20, 50, 60]], "a corner goes, its box stays"
    assert valid.nonzero().tolist() == [[0, 0], [0, 4], [1, 0], [1, 4]]
    assert labels[:, [0, 4]].tolist() == [[1, 1], [1, 1]]
    assert not crowd.any()
    box = torch.tensor([[10.0, 20.0, 50.0, 60.0], [30.0, 10.0, 70.0, 90.0]])
    masks = draw_targets(found.targets, box, torch.tensor([0, 0]), torch.tensor([0, 4]), 4)
    assert masks.tolist() == [[[1, 1, 0, 0]] * 4, [[1] * 4] * 4]


def blob(rng, size):
    """A polygon of 12 corners, none of them sharp, that may reach beyond its image."""
    angles = (np.arange(12) + rng.uniform(0, 0.8, 12)) * np.pi / 6
    radii = rng.uniform(15, 34, 2) * rng.uniform(0.8, 1, (12, 1))
    centre = rng.uniform(0, 1, 2) * size[::-1]
    return (centre + radii * np.stack([np.cos(angles), np.sin(angles)], 1)).ravel()


def surrounds(box, mask, slack):
    rows, columns = mask.nonzero()
    around = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return np.abs(box.numpy() - around).max() <= slack


def check(batch, found, number):
    """Compare an image's pixels, masks and boxes with bitmaps; gives how many of its objects are partly hidden."""
    other, frame = number ^ 1, inside(batch, number)
    theirs = [mask & inside(batch, number, other) for mask in bitmaps(batch, other)]
    chosen = found.targets.valid[number, 4:].numpy()
    cover = np.any([mask & is_chosen for mask, is_chosen in zip(theirs, chosen, strict=True)], 0)
    expected = np.where(cover, other + 1, batch.images.pixels[number, 0])
    assert (found.images.pixels[number, 0].numpy() != expected).mean() < 1e-3
    hidden = 0
    for slot, own in enumerate(bitmaps(batch, number)):
        mask = own & frame & ~cover
        if (mask != (own & frame)).any():
            share = mask.sum() / (own & frame).sum()
            is_valid = bool(found.targets.valid[number, slot])
            assert is_valid == (share > 0.1) or abs(share - 0.1) < 0.01
            hidden += is_valid
            assert not is_valid or surrounds(found.targets.boxes[number, slot], mask, 2)
        if found.targets.valid[number, slot]:
            assert iou(visible(found, number, slot) & frame, mask) >= 0.98
    for slot in chosen.nonzero()[0]:
        assert iou(visible(found, number, 4 + slot) & frame, theirs[slot]) >= 0.98
        is_sliver = theirs[slot].sum() < 100
        assert is_sliver or surrounds(found.targets.boxes[number, 4 + slot], theirs[slot], 2)
    return hidden


def test_pixels_masks_and_boxes_agree_with_bitmaps():
    sizes, hidden = [(96, 100), (80, 128), (96, 128), (64, 90)], 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        batch = batch_of([[blob(rng, size) for _ in range(3)] for size in sizes], sizes, seed=seed)
        found = paste(batch, 0.5)
        hidden += sum(check(batch, found, number) for number in range(4))
    assert hidden > 10


def test_boxes_of_what_is_left_are_exact_to_a_thousandth():
    below, above = rectangle(10, 20, 74, 84), rectangle(40.37, 10, 120, 95)
    found = paste(batch_of([[below], [above]], [(96, 128), (96, 128)]), 1.0).targets
    torch.testing.assert_close(found.boxes[0, 0], torch.tensor([10, 20, 40.37, 84]), atol=0.04, rtol=0)


def test_a_tip_that_is_left_is_found_to_half_a_cell():
    below, above = rectangle(10, 20, 74, 84), [40.3, 10, 120, 10, 120, 95, 55.7, 95]
    found = paste(batch_of([[below], [above]], [(96, 128), (96, 128)]), 1.0).targets
    tip = 40.3 + (84 - 10) * (55.7 - 40.3) / 85
    assert found.boxes[0, 0, [0, 1, 3]].tolist() == [10, 20, 84]
    assert tip - 0.25 < found.boxes[0, 0, 2] < tip


def test_objects_of_which_hardly_anything_is_left_are_dropped():
    for covered, kept in ((35.0, True), (36.5, False)):  # of 40 columns
        batch = batch_of([[rectangle(10, 20, 50, 60)], [rectangle(0, 0, 10 + covered, 96)]], [(96, 128)] * 2)
        targets = paste(batch, 1.0).targets
        assert targets.valid[0].nonzero().flatten().tolist() == [0, 4][not kept :]
        assert targets.boxes[0, 0].tolist() == ([45, 20, 50, 60] if kept else [0] * 4)


def test_holes_and_overlaps_of_what_is_pasted_show_as_they_are():
    """A ring, and an object in its hole, drawn the other way round as in a mirrored image."""
    ring = rectangle(20, 20, 80, 80)
    batch = batch_of([[rectangle(0, 0, 100, 96)], [ring, rectangle(60, 60, 90, 90)]], [(96, 128)] * 2)
    hole = torch.from_numpy(edges_from_rings(rings_from_polygons([rectangle(40, 40, 60, 60)])))
    edges, first = batch.targets.edges, batch.targets.first_edge
    edges[1, 4:12] = torch.cat([hole[:, [2, 3, 0, 1]], edges[1, 4:8].clone()])
    first[1] = torch.tensor([0, 8, 12, 12, 12])
    edges[1] = edges[1, :, [2, 3, 0, 1]]
    found = paste(batch, 1.0)
    assert found.images.pixels[0, 0, 45, 50] == 1
    assert found.images.pixels[0, 0, [30, 70, 70, 85], [50, 30, 70, 85]].tolist() == [2] * 4
    assert not visible(found, 0, 0)[[30, 70, 70, 85], [50, 30, 70, 85]].any()
    assert visible(found, 0, 0)[45, 50]


def test_crowds_are_covered_but_never_pasted():
    batch = batch_of([[rectangle(10, 20, 50, 60)], [rectangle(0, 0, 100, 96)]], [(96, 128)] * 2, crowd=[(1, 0)])
    found = paste(batch, 1.0)
    assert torch.equal(found.images.pixels[0], batch.images.pixels[0])
    assert found.images.pixels[1, 0, 30, 20] == 1
    assert found.targets.valid.nonzero().tolist() == [[0, 0], [1, 0], [1, 4]]
    assert found.targets.crowd.nonzero().tolist() == [[1, 0]]
    assert torch.equal(found.targets.boxes[1, 0], batch.targets.boxes[1, 0])


def test_nothing_is_pasted_beyond_the_smaller_image():
    """The partner's object goes on beyond its view; the larger image has its own pixels there, and its own objects."""
    batch = batch_of([[rectangle(70, 40, 126, 80)], [rectangle(50, 30, 120, 90)]], [(96, 128), (60, 90)])
    found = paste(batch, 1.0)
    painted = (found.images.pixels[0, 0] == 2).nonzero()
    assert [*painted.amin(0).tolist(), *painted.amax(0).tolist()] == [30, 50, 59, 89]
    assert found.targets.boxes[0, 4].tolist() == [50, 30, 90, 60]
    assert np.array_equal(
        visible(found, 0, 0), bitmap(batch.targets.edges[0, :4]) & (found.images.pixels[0, 0] != 2).numpy()
    )
    assert (found.images.pixels[1, 0, 60:] == 0).all()
    assert found.targets.boxes[1, 4].tolist() == [70, 40, 90, 60]


def test_half_of_the_objects_are_pasted_and_their_keys_choose_them():
    sizes = [(96, 128)] * 2
    corners = [(10 + 20 * (k % 4), 10 + 20 * (k // 4)) for k in range(16)]
    objects = [rectangle(x, y, x + 15, y + 15) for x, y in corners]
    counts = [
        paste(batch_of([objects, objects], sizes, seed=s, slots=16), 0.5).targets.valid[:, 16:] for s in range(40)
    ]
    assert 0.45 < torch.stack(counts).float().mean() < 0.55
    assert len({tuple(count[0].tolist()) for count in counts}) > 35
    assert torch.equal(
        counts[3], paste(batch_of([objects, objects], sizes, seed=3, slots=16), 0.5).targets.valid[:, 16:]
    )


def test_a_batch_is_pasted_as_its_pairs_are_and_again_bit_by_bit():
    sizes = [(96, 100), (80, 128), (96, 128), (64, 90)]
    rng = np.random.default_rng(0)
    batch = batch_of([[blob(rng, size) for _ in range(3)] for size in sizes], sizes)
    for blend in (0.0, 1.5):
        whole, again = paste(batch, 0.5, blend), paste(batch, 0.5, blend)
        halves = [
            paste(tree_map_only(torch.Tensor, lambda column, part=part: column[part], batch), 0.5, blend)
            for part in (slice(2), slice(2, 4))
        ]
        for one, other, *parts in zip(*map(tree_leaves, (whole, again, *halves)), strict=True):
            assert torch.equal(one, other)
            assert torch.equal(one, torch.cat(parts))


def test_soft_edges_mix_both_images_within_the_smaller():
    batch = batch_of([[], [rectangle(30, 20, 90, 60)]], [(96, 128), (60, 128)])
    sharp, soft = paste(batch, 1.0), paste(batch, 1.0, blend=1.0)
    assert torch.equal(sharp.targets.edges, soft.targets.edges)
    row = soft.images.pixels[0, 0, 40, 26:35]
    assert (row.diff() >= 0).all(), "from 1 to 2"
    torch.testing.assert_close(row[[0, 3, 4, 8]], torch.tensor([1.0, 1.3, 1.7, 2.0]), atol=0.02, rtol=0)
    assert soft.images.pixels[0, 0, 60:].unique().tolist() == [1]


def test_an_odd_micro_batch_is_refused():
    batch = batch_of([[], [], []], [(96, 128)] * 3)
    with pytest.raises(ValueError, match=r"in pairs, but it has 3; choose train\.batch .* data\.augment\.copy_paste=0"):
        paste(batch, 0.5)


def test_pasted_images_stay_channels_last():
    batch = batch_of([[], []], [(96, 128)] * 2)
    for blend in (0.0, 1.0):
        assert paste(batch, 0.5, blend).images.pixels.is_contiguous(memory_format=torch.channels_last)


def test_pasting_waits_for_no_device(tape):
    batch = batch_of([[rectangle(10, 20, 50, 60)], [rectangle(30, 10, 70, 90)]], [(90, 110), (96, 128)])
    found, replay = tape.record(lambda: paste(batch, 1.0, 1.0))
    replay()
    assert torch.equal(found.images.pixels, paste(batch, 1.0, 1.0).images.pixels)
