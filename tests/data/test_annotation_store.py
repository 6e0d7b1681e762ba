"""Annotations as tensors, and what a batch picks of them."""

import numpy as np
import pytest
import torch

from maskrcnn.data import annotation_store
from maskrcnn.data.annotation_store import AnnotationStore, Padding
from maskrcnn.data.formats import coco

CPU = torch.device("cpu")
SIZES = [(40, 60), (60, 45), (33, 44)]


def gather(data, *images, padding=None):
    ours = AnnotationStore(data, CPU)
    return ours.gather(torch.tensor(images), padding or ours.padding(np.array(images)))


@pytest.fixture
def crowded(write_split, annotate):
    """33 objects in the first image, one in the second, none in the third."""
    return coco.read(*write_split([annotate(id, 1 if id <= 33 else 2) for id in range(1, 35)], sizes=SIZES))


def test_targets_are_padded_to_powers_of_two_and_never_cut(crowded):
    targets = gather(crowded, 2, 0, 1)
    assert targets.boxes.shape == (3, 64, 4)
    assert targets.edges.shape == (3, 256, 4)  # 33 squares of 4 edges
    assert targets.valid.sum(dim=1).tolist() == [0, 33, 1]
    assert targets.first_edge[0].tolist() == [0] * 65
    assert targets.first_edge[1, :3].tolist() == [0, 4, 8]
    assert targets.first_edge[1, 33:].tolist() == [132] * 32
    assert targets.edges[1, 4:8].abs().sum() > 0
    assert targets.edges[1, 132:].abs().sum() == 0
    small = gather(crowded, 2)
    assert (small.boxes.shape, small.edges.shape) == ((1, 8, 4), (1, 64, 4))


def test_padding_is_zero_in_every_column(crowded):
    targets = gather(crowded, 2, 1)
    assert targets.boxes[0].abs().sum() == targets.labels[0].sum() == targets.crowd.sum() == 0
    assert targets.boxes[1, 1:].abs().sum() == targets.labels[1, 1:].sum() == 0


def test_one_room_holds_the_annotations_of_any_image(crowded):
    assert AnnotationStore(crowded, CPU).padding() == Padding(objects=64, edges=256)
    narrow, wide = gather(crowded, 1), gather(crowded, 1, padding=Padding(64, 256))
    for a, b in zip(narrow[:-1], wide[:-1], strict=True):  # nothing hides an object
        assert torch.equal(a, b[:, : a.shape[1]])


def test_edges_are_those_of_their_object_and_crowd_regions_have_none(write_split, annotate):
    triangle = [[1.0, 2.0, 9.0, 2.0, 9.0, 30.0]]
    data = coco.read(*write_split([annotate(1), annotate(2, iscrowd=1), annotate(3, segmentation=triangle)]))
    targets = gather(data, 0)
    assert targets.first_edge[0, :4].tolist() == [0, 4, 4, 7]
    start = {tuple(edge[:2].tolist()) for edge in targets.edges[0, 4:7]}
    assert start == {(1, 2), (9, 2), (9, 30)}
    assert targets.valid[0, :3].all()
    assert targets.crowd[0, :3].tolist() == [False, True, False]


def test_objects_that_are_not_learnt_leave_no_trace(write_split, annotate):
    rows = [annotate(id, 1 + id % 2, iscrowd=id % 3 == 0) for id in range(1, 8)]
    outside = [annotate(10 + id, 1 + id % 3, bbox=[70, 5, 4, 9], iscrowd=id % 2) for id in range(5)]
    whole = coco.read(*write_split([*outside[:2], *rows, *outside[2:]], sizes=SIZES))
    assert np.count_nonzero(~whole.learnt) == 5
    with_outside = annotation_store.pack(whole)
    for one, other in zip(with_outside, annotation_store.pack(coco.read(*write_split(rows, sizes=SIZES))), strict=True):
        assert torch.equal(one, other)


def test_a_data_set_without_any_object_gives_slots_that_are_not_valid(write_split):
    targets = gather(coco.read(*write_split([], sizes=SIZES)), 0, 2)
    assert not targets.valid.any()
    assert targets.boxes.abs().sum() == targets.edges.abs().sum() == targets.first_edge.sum() == 0


def test_annotations_too_large_for_a_device_stay_with_the_processor(crowded, monkeypatch):
    columns = annotation_store.pack(crowded)
    free = 10 * sum(column.numel() * column.element_size() for column in columns)
    fake = type("module", (), {"mem_get_info": staticmethod(lambda device: (free, 2 * free))})
    monkeypatch.setattr(torch, "get_device_module", lambda kind: fake)
    assert annotation_store.device_for(columns, torch.device("cuda")).type == "cuda"
    free -= 100
    assert annotation_store.device_for(columns, torch.device("cuda")).type == "cpu"


def test_real_annotations_lie_inside_their_pictures(shared_data):
    split = coco.find_split(shared_data / "coco_mini", "val2017", "annotations/instances_val2017.json")
    data = coco.read(*split)
    targets = gather(data, *range(len(data.image_ids)))
    assert targets.valid.sum() == len(data.boxes)
    assert (targets.boxes[..., 2].amax(dim=1) <= torch.from_numpy(data.sizes[:, 1]) + 1).all()
    assert (targets.first_edge.diff(dim=1) >= 0).all()
    assert (targets.first_edge[:, -1] <= targets.edges.shape[1]).all()
