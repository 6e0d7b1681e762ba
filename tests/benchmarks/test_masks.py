"""The benchmark of masks runs, and what it compares is the same."""

import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="the peer, pycocotools, is not installed")

from maskrcnn.masks import polygons_from_bitmap


def turned(rings):
    """Rings from their smallest point on, in an order of their own."""
    points = [[tuple(point) for point in ring.tolist()] for ring in rings]
    return sorted(ring[ring.index(min(ring)) :] + ring[: ring.index(min(ring))] for ring in points)


@pytest.mark.parametrize("kind", ["blobs", "ragged blobs", "noise"])
def test_both_sides_find_the_same_runs_and_the_same_rings(benchmark, kind):
    case = benchmark.make_case(kind, 6, 60, 90)
    strings = benchmark.ours(case)
    assert strings == benchmark.by_sampling(case)
    peers = benchmark.outlines_of_bitmaps(strings, 60, 90)
    assert sum(map(len, peers)) > 5
    for outlines, rings in zip(benchmark.our_outlines(case), peers, strict=True):
        assert turned(ring for outline in outlines for ring in outline) == turned(rings)


def test_the_peers_rings_are_those_of_a_mask_with_a_hole(benchmark):
    mask = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0]], np.uint8)
    assert turned(benchmark.rings_of(mask)) == turned(polygons_from_bitmap(mask))


def test_it_runs_in_tiny_form(benchmark):
    pytest.importorskip("torchvision", reason="the peer, torchvision, is not installed")
    section = benchmark.run(number=2, height=30, width=40, repeats=1)
    assert len(section.rows) == 2 * len(benchmark.KINDS)
    assert all(row["ratio"] > 0 and not row.get("different masks") for row in section.rows)
