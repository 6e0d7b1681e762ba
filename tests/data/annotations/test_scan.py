"""The kernels against Python's own parser."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maskrcnn.data.annotations.names import Names
from maskrcnn.data.annotations.scan import scan, scan_runs
from maskrcnn.masks.coordinates import narrowed


def scanned(*texts: str):
    encoded = [text.encode() for text in texts]
    return scan(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(text) for text in encoded], dtype=np.int64))


def annotation(**fields: str) -> str:
    known = {"id": "4", "image_id": "9", "category_id": "3", "bbox": "[1,2,30,10]", **fields}
    return "{" + ",".join(f'"{key}":{value}' for key, value in known.items()) + "}"


digits = st.text("0123456789", min_size=1, max_size=20)
whole = digits.map(lambda text: text.lstrip("0") or "0")  # JSON knows no zeros before others
fraction = st.just("") | digits.map(".{}".format)
numbers = st.builds("{}{}{}".format, st.sampled_from(["", "-"]), whole, fraction) | st.floats(-1e9, 1e9).map(repr)


@settings(deadline=None)
@given(st.lists(numbers, min_size=6, max_size=6))
@example(["16777217", "0.1", "-0.0", "123.45678901234567", "8388608.5", "999999999999999999"])
@example(["1e2", "1E-2", "12345678901234567890", "0.0000000000000000001", "1", "2"])
def test_a_number_is_rounded_as_python_rounds_it_or_left_to_the_parser(texts):
    found = scanned(annotation(segmentation=f"[[{','.join(texts)}]]"))
    assert not found.strange[0]
    if not found.strange_outline[0]:
        assert found.points.ravel().tolist() == narrowed(np.array(texts, float)).tolist()


def test_numbers_of_up_to_18_digits_are_nearly_never_left_to_the_parser():
    values = np.random.default_rng(0).uniform(0, 640, (1000, 6))
    found = scanned(*(annotation(segmentation=json.dumps([row])) for row in values.tolist()))
    assert not found.strange_outline.any()
    assert np.array_equal(found.points.reshape(-1, 6), narrowed(values.ravel()).reshape(-1, 6))


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4) | st.integers(-1000, 1000), min_size=4, max_size=4))
@example([-0.1, 0.2, 0.1, 0.2])
@example([-639.9999999999999, 1e-3, 640.0000000000001, 2.5])
def test_a_box_is_read_as_python_reads_it(box):
    found = scanned(annotation(bbox=json.dumps(box)))
    if not found.strange[0]:
        assert found.boxes[0].tolist() == list(map(float, box))


texts = st.text(st.sampled_from('ab"\\{}[],: \n\u00e9'), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
polygon = st.lists(st.integers(0, 640) | st.decimals(0, 640, places=2).map(float), max_size=10).map(
    lambda row: row[: len(row) // 2 * 2] if len(row) > 6 else row
)
rows = st.fixed_dictionaries(
    {
        "id": st.integers(-(10**17), 10**17),
        "image_id": st.integers(0, 10**6),
        "category_id": st.integers(0, 90),
        "bbox": st.lists(st.integers(0, 600), min_size=4, max_size=4),
    },
    optional={
        "iscrowd": st.booleans() | st.integers(0, 1),
        "segmentation": st.none() | st.lists(polygon, max_size=3),
        "area": st.decimals(0, 10**5, places=3).map(float),
        "attributes": values,
        "size": values,
    },
)


@settings(deadline=None)
@given(
    st.lists(rows, max_size=4), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]), st.booleans(), st.data()
)
def test_annotations_in_any_order_of_keys_and_spacing_are_read_as_python_reads_them(entries, separators, ascii, data):
    shuffled = [dict(data.draw(st.permutations(list(row.items())))) for row in entries]
    found = scanned(*(json.dumps(row, separators=separators, ensure_ascii=ascii) for row in shuffled))
    assert not found.strange.any()
    assert not found.strange_outline.any()
    assert found.ids.tolist() == [row["id"] for row in entries]
    assert found.image_ids.tolist() == [row["image_id"] for row in entries]
    assert found.category_ids.tolist() == [row["category_id"] for row in entries]
    assert found.crowd.tolist() == [bool(row.get("iscrowd")) for row in entries]
    assert found.boxes.tolist() == [row["bbox"] for row in entries]
    polygons = [(place, one) for place, row in enumerate(entries) for one in row.get("segmentation") or ()]
    whole = [(place, one) for place, one in polygons if len(one) >= 6]
    assert found.owners.tolist() == [place for place, _ in whole]
    assert np.diff(found.first).tolist() == [len(one) // 2 for _, one in whole]
    numbers = np.array([value for _, one in whole for value in one], float)
    assert found.points.ravel().tolist() == narrowed(numbers).tolist()
    assert found.num_short.sum() == len(polygons) - len(whole)
    assert [None if np.isnan(area) else area for area in found.areas.tolist()] == [row.get("area") for row in entries]
    others = [{key: value for key, value in row.items() if key in ("attributes", "size")} for row in entries]
    texts = Names(found.others, found.first_other)
    assert [json.loads(text) if text else {} for text in texts] == others


@pytest.mark.parametrize(
    "text",
    [
        annotation(id="1.0"),
        annotation(id="null"),
        annotation(id="1" * 19),
        annotation(image_id='"9"'),
        annotation(category_id="true"),
        annotation(iscrowd="null"),
        annotation(bbox="[1,2,3]"),
        annotation(bbox="[1,2,3,4,5]"),
        annotation(bbox="[1,2,3,null]"),
        annotation(bbox="[1,2,1e3,4]"),
        annotation(bbox="null"),
        annotation()[:-1] + ',"id":5}',
        annotation()[:-1] + ',"\\u0069scrowd":1}',
        '{"id":1}',
        "{}",
        "null",
        "[]",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser_and_its_neighbours_are_not(text):
    found = scanned(annotation(id="7"), text, annotation(id="8"))
    assert found.strange.tolist() == [False, True, False]
    assert found.ids[[0, 2]].tolist() == [7, 8]


def test_an_id_and_a_box_may_be_missing_and_that_is_told():
    texts = [annotation(), '{"image_id":9,"category_id":3}', '{"id":5,"image_id":9,"category_id":3}']
    found = scanned(*texts, '{"image_id":9,"bbox":[1,2,3,4],"category_id":3}')
    assert not found.strange.any()
    assert found.has_id.tolist() == [True, False, True, False]
    assert found.has_box.tolist() == [True, False, False, True]
    assert found.ids.tolist() == [4, 0, 5, 0]
    assert found.boxes.tolist() == [[1, 2, 30, 10], [0] * 4, [0] * 4, [1, 2, 3, 4]]


@pytest.mark.parametrize(
    "text",
    ['{"counts":[2,3],"size":[1,5]}', "[1,2,3,4,5,6]", "[[1,2,3,4,5,6,7]]", '[[1,2,3,4,"5",6]]', "true", "[null]"],
)
def test_an_outline_that_is_not_plain_is_left_to_the_parser_with_its_text(text):
    polygon = "[[1,2,3,4,5,6]]"
    joined = [annotation(segmentation=polygon), annotation(segmentation=text), annotation(segmentation=polygon)]
    found = scanned(*joined)
    assert not found.strange.any()
    assert found.strange_outline.tolist() == [False, True, False]
    assert found.owners.tolist() == [0, 2]
    begin, stop = found.segmentations[1]
    assert "".join(joined)[begin:stop] == text


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ('{"counts":[2,3],"size":[1,5]}', ((1, 5), [2, 3])),
        ('{ "size" : [ 1 , 5 ] ,\n"counts" : [ 2 , 3 ] }', ((1, 5), [2, 3])),
        ('{"counts":[-1],"size":[1,5]}', ((1, 5), [-1])),
        ('{"counts":"0o","size":[1,5]}', None),
        ('{"counts":[2.0,3],"size":[1,5]}', None),
        ('{"counts":[2,3],"size":[1,5,6]}', None),
        ('{"counts":[2,3],"size":[1]}', None),
        ('{"counts":[],"size":[1,5]}', None),
        ('{"counts":[2,3],"size":[1,5],"size":[1,6]}', None),
        ('{"counts":[2,3]}', None),
        ("{}", None),
        ("[[1,2,3,4,5,6]]", None),
        ("null", None),
    ],
)
def test_run_lengths_are_read_where_they_are_plain(text, runs):
    found = scan_runs(np.frombuffer(text.encode(), np.uint8))
    assert (found and (found[0], found[1].tolist())) == runs
