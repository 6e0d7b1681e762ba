"""Classes by name."""

from dataclasses import replace

import numpy as np
import pytest

from maskrcnn.data.classes import choose_classes, joining, unite_classes
from maskrcnn.data.formats import coco
from maskrcnn.recipes.text import parse

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "cup"}, {"id": 9, "name": "left=right"}]


@pytest.fixture
def data(write_split, annotate):
    """Two images: a cat and a cup, then a cup and one of an odd name."""
    rows = [annotate(11, 1, category_id=3), annotate(12, 1), annotate(13, 2), annotate(14, 2, category_id=9)]
    return coco.read(*write_split(rows, sizes=((40, 60), (50, 30)), categories=CATEGORIES))


def test_no_names_choose_everything(data):
    assert choose_classes(data, ()) is data


def test_some_classes_are_kept_with_their_ids_and_all_images(data):
    chosen = choose_classes(data, ["cup"])
    assert (chosen.category_names, chosen.category_ids) == (("cup",), (7,))
    assert chosen.annotation_ids.tolist() == [12, 13]
    assert chosen.labels.tolist() == [1, 1]
    assert chosen.first_object.tolist() == [0, 1, 2]
    assert chosen.outline(1).points.tolist() == data.outline(2).points.tolist()


def test_a_class_with_two_names_is_refused(data):
    with pytest.raises(ValueError, match="gives class 'cup' two names, 'cup' and 'mug'"):
        choose_classes(data, ["cup", "mug=cup"])
    assert choose_classes(data, ["mug=cup", "mug=cup"]).category_names == ("mug",)


def test_a_class_is_renamed_and_two_become_one(data):
    chosen = choose_classes(data, ["left=right", "thing=cup", "thing=cat"])
    assert (chosen.category_names, chosen.category_ids) == (("thing", "left=right"), (3, 9))
    assert chosen.labels.tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [(["cap"], "has no class 'cap'; did you mean cup?"), (["zebra"], "it has cat, cup, left=right")],
)
def test_a_class_that_is_not_there_is_refused_with_those_that_are(data, classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        choose_classes(data, classes)


@pytest.mark.parametrize(
    ("one", "other"),
    [("cat", "Cat "), ("a, b", "A, B"), ("x=y", "X=Y"), ("a=b", "b"), ('say "hi"', "say"), ("no", "No"), ("\\", "/")],
)
def test_what_is_said_to_join_two_classes_joins_them(write_split, annotate, one, other):
    categories = [{"id": id, "name": name} for id, name in enumerate((one, other, "b=" + other), 1)]
    data = coco.read(*write_split([annotate(id, category_id=id) for id in (1, 2, 3)], categories=categories))
    chosen = choose_classes(data, parse(joining(one, other)))
    assert (chosen.category_names, chosen.labels.tolist()) == ((one,), [1, 1])


def test_quotes_that_hold_no_text_are_refused(data):
    with pytest.raises(ValueError, match=r"cannot be read; within double quotes"):
        choose_classes(data, [r'a="\q"'])


def test_a_class_without_an_object_leaves_empty_images(data):
    chosen = choose_classes(choose_classes(data, ["cup"]), ["mug=cup"])
    assert chosen.category_names == ("mug",)
    assert len(choose_classes(replace(data, labels=np.array([1, 1, 1, 1])), ["cup"]).labels) == 0


def test_data_sets_get_the_same_classes_by_name(data):
    other = choose_classes(data, ["dog=cat", "cup"])
    mine, theirs = unite_classes([data, other])
    assert mine.category_names == theirs.category_names == ("cat", "cup", "left=right", "dog")
    assert mine.category_ids == theirs.category_ids == (1, 2, 3, 4)
    assert [theirs.category_names[label - 1] for label in theirs.labels] == ["dog", "cup", "cup"]


def test_a_data_set_that_lacks_a_class_gets_the_ids_of_the_first(data):
    mine, theirs = unite_classes([data, choose_classes(data, ["cup"])])
    assert theirs.category_ids == mine.category_ids == (3, 7, 9)
    assert theirs.labels.tolist() == [2, 2]


def test_names_that_repeat_cannot_be_united(data):
    twice = replace(data, category_names=("cat", "cat", "cup"))
    assert unite_classes([twice, twice])[1] is twice
    with pytest.raises(ValueError, match="has several categories called cat"):
        unite_classes([data, twice])
