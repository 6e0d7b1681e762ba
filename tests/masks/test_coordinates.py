"""Coordinates in float32 that COCO's evaluation sees as the numbers of the file."""

import math

import numpy as np
from hotcoco import mask as rle
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maskrcnn.masks import decimals, rings_from_polygons
from maskrcnn.masks.coordinates import narrowed


def cells(values):
    """Of the grid that pycocotools draws polygons on."""
    return [math.trunc(5 * value + 0.5) for value in values]


def back(values):
    """The numbers that evaluation gets of a file's."""
    return decimals(narrowed(np.array(values, float)).reshape(-1, 2)).ravel().tolist()


@settings(deadline=None)
@given(st.lists(st.decimals(-9999, 9999, places=2).map(float), min_size=2, max_size=2))
@example([0.7, 0.1])
@example([473.07, -0.3])
def test_a_number_of_two_places_comes_back_exactly(values):
    assert back(values) == values


@settings(deadline=None, max_examples=500)
@given(st.lists(st.floats(-1e5, 1e5) | st.decimals(-(10**5), 10**5, places=1).map(float), min_size=2, max_size=2))
@example([0.7, 0.69999999999999996])
@example([0.7000000000000001, 0.6999999])
@example([99999.7, 65536.1])
def test_any_number_stays_in_its_cell_and_moves_by_one_last_bit_at_most(values):
    near = np.array(values, float).astype(np.float32)
    assert cells(back(values)) == cells(values)
    assert (np.abs(narrowed(np.array(values, float)) - near) <= np.spacing(np.abs(near))).all()


def test_a_bare_float32_would_fall_into_another_cell():
    assert cells([np.float64(np.float32(0.7))]) != cells([0.7]) == cells(back([0.7, 0.7])[:1])


def test_polygons_are_drawn_as_if_they_had_never_been_float32():
    generator = np.random.default_rng(0)
    for places in (0, 1, 2, 17) * 25:
        polygon = generator.uniform(-20, 90, 2 * generator.integers(3, 9)).round(places)
        rings = rings_from_polygons([polygon])  # which may turn the other way
        drawn = rle.frPyObjects([decimals(rings.points).ravel().tolist()], 70, 60)
        assert drawn == rle.frPyObjects([polygon.tolist()], 70, 60)


def test_what_is_not_finite_or_too_large_stays_so():
    found = narrowed(np.array([np.nan, np.inf, -np.inf, 1e300, 3e38]))
    assert np.isnan(found[0])
    assert found[1:].tolist() == [np.inf, -np.inf, np.inf, float(np.float32(3e38))]
