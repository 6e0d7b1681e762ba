"""Boxes of what a rectangle leaves of outlines."""

import numpy as np
import pytest
import torch

from maskrcnn.data.augment.visible import visible_boxes
from maskrcnn.ops.rasterize import rasterize

HEIGHT, WIDTH = 12, 20
SIZES = torch.tensor([[12.0, 20.0]])


def ring(*points):
    """Directed edges of a closed ring."""
    ends = torch.tensor(points, dtype=torch.float32)
    return torch.cat([ends, ends.roll(-1, 0)], 1)


def boxes_of(*objects, padding=0):
    """The visible boxes of objects, each a list of rings."""
    outlines = [torch.cat(rings) if rings else torch.zeros(0, 4) for rings in objects]
    first = torch.tensor([[0, *np.cumsum([len(outline) for outline in outlines])]])
    edges = torch.cat([*outlines, torch.zeros(padding, 4)])[None]
    return visible_boxes(edges, first, SIZES)[0].tolist()


AROUND_IT = ring([-5, -5], [30, -5], [30, 40], [-5, 40])
HOLE = ring([-1, -1], [-1, 13], [21, 13], [21, -1])


@pytest.mark.parametrize(
    ("rings", "expected"),
    [
        ([ring([2, 3], [9, 3], [5, 8])], [2, 3, 9, 8]),  # whole
        ([ring([-4, 3], [4, 3], [4, 11])], [0, 3, 4, 11]),  # enters at x = 0, y = 7
        ([ring([4, -8], [4, 4], [10, 4])], [4, 0, 10, 4]),  # crosses y = 0 at x = 4 and 8
        ([ring([14, -2], [26, 10], [26, -2])], [16, 0, 20, 4]),  # surrounds the corner (20, 0)
        ([AROUND_IT], [0, 0, 20, 12]),  # no edge within it
        ([AROUND_IT, HOLE], [0, 0, 0, 0]),  # lies in the hole
        ([AROUND_IT, ring([-1, -1], [-1, 13], [7, 13], [7, -1])], [7, 0, 20, 12]),  # a hole over the left corners
        ([ring([21, 2], [30, 2], [30, 9])], [0, 0, 0, 0]),  # outside
        ([ring([-9, 5], [5, -9], [-9, -9])], [0, 0, 0, 0]),  # cuts off no corner: passes by at (-2, -2)
        ([ring([-9, 13], [13, -9], [-9, -9])], [0, 0, 4, 4]),  # cuts off a corner
        (
            [ring([2, 1], [4, 1], [4, 3]), ring([25, 9], [18, 9], [25, 16])],
            [2, 1, 20, 11],
        ),  # two parts: the second is cut at x = 20, y = 11
        ([], [0, 0, 0, 0]),
    ],
)
def test_boxes_are_those_worked_out_by_hand(rings, expected):
    for padding in (0, 5):
        before, found, after = boxes_of(
            [ring([1, 1], [3, 1], [3, 2])], rings, [ring([5, 6], [9, 6], [9, 7])], padding=padding
        )
        assert (before, after) == ([1, 1, 3, 2], [5, 6, 9, 7])
        assert found == pytest.approx(expected, abs=1e-5)
    assert boxes_of([part.flip(0)[:, [2, 3, 0, 1]] for part in rings])[0] == pytest.approx(expected, abs=1e-5), (
        "reversed"
    )


def test_each_image_has_its_own_size():
    edges = ring([-2, -2], [30, -2], [30, 30], [-2, 30]).expand(2, -1, -1)
    found = visible_boxes(edges, torch.tensor([[0, 4]] * 2), torch.tensor([[12.0, 20.0], [25.0, 7.0]]))
    assert found.tolist() == [[[0, 0, 20, 12]], [[0, 0, 7, 25]]]


def blob(random, centre, radius, waves=True):
    """A ring of 40 points, as wavy as an annotator's."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    lengths = radius * (
        1 + waves * sum(random.normal(0, 0.08) * np.cos(k * angle + random.uniform(0, 6)) for k in (2, 3, 4))
    )
    points = np.stack([centre[0] + lengths * np.cos(angle), centre[1] + lengths * np.sin(angle)], 1)
    return points.astype(np.float32)


def test_boxes_are_those_of_drawn_masks_over_random_shapes_with_holes():
    random, side, fine = np.random.default_rng(0), 64, 1024
    count = 60
    rings, first = [], [0]
    for _ in range(count):
        centre, radius = random.uniform(-30, side + 30, 2), random.uniform(8, 70)
        outer, hole = blob(random, centre, radius), blob(random, centre + random.normal(0, 2, 2), radius * 0.5)[::-1]
        rings += [ring(*outer.tolist()), ring(*hole.tolist())]
        first.append(first[-1] + 80)
    edges, firsts = torch.cat(rings)[None], torch.tensor([first])
    sizes = torch.tensor([[side, side]], dtype=torch.float32)
    found = visible_boxes(edges, firsts, sizes)[0].numpy()
    window = torch.tensor([[0.0, 0.0, side, side]])
    zero = torch.zeros(1, dtype=torch.long)
    off = []
    for item, box in enumerate(found):
        mask = rasterize(edges, firsts, window, zero, zero + item, size=fine)[0].numpy() > 0
        if not mask.any():
            assert np.minimum(*(box[2:] - box[:2])) < 0.5
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        drawn = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) * (side / fine)
        assert (box[:2] <= drawn[:2] + 0.04).all(), "nothing that is drawn lies beyond the box"
        assert (box[2:] >= drawn[2:] - 0.04).all()
        off.append(np.abs(box - drawn).max())
    assert len(off) > 40
    assert np.quantile(off, 0.95) < 0.1, "pixels; tips of acute angles are thinner than what is drawn"
    assert max(off) < 1
