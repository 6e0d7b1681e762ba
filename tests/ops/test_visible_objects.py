"""What lies above hides what lies below, and nothing else (docs/decisions/0031-pixels.md)."""

import torch

from maskrcnn.masks import edges_from_rings, rings_from_polygons
from maskrcnn.ops.visible import rasterize_hidden


def test_what_is_pasted_hides_all_that_stand_before_it_and_not_itself():
    polygons = [[0, 0, 6, 0, 6, 4, 0, 4], [1, 1, 4, 1, 4, 3, 1, 3], [3, 2, 6, 2, 6, 4, 3, 4]]  # the last two are pasted
    edges = torch.from_numpy(edges_from_rings(rings_from_polygons(polygons)))
    first_edge, hiding = torch.tensor([[0, 4, 8, 12]] * 2), torch.tensor([[4, 12], [12, 12]])
    boxes = torch.tensor([[0.0, 0.0, 6.0, 4.0]]).expand(4, 4)
    images, objects = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 0])
    found = rasterize_hidden(edges.expand(2, -1, -1), first_edge, hiding, boxes, images, objects, size=12)
    expected = torch.zeros(4, 6)
    expected[1:3, 1:4] = expected[2:4, 3:6] = 1
    assert torch.equal(found[0], expected.repeat_interleave(3, 0).repeat_interleave(2, 1))
    assert not found[1:].any(), "nothing lies above what is pasted, nor in an image onto which nothing is"
