"""The table of published checkpoints: complete, in range, and found by name."""

import re
import runpy
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from maskrcnn.config import Recipe
from maskrcnn.convert import zoo
from maskrcnn.convert.detectron2 import DETECTRON2
from maskrcnn.convert.framework import override, read, shapes
from maskrcnn.convert.mmdetection import MMDETECTION
from maskrcnn.convert.zoo import PUBLISHED, REFUSED, checked, download, find, of_file, page, table
from maskrcnn.storage.download import _cache_path

REPOSITORY = Path(__file__).parents[2]
PARITY = REPOSITORY / "tests" / "parity"
detectron2_names = runpy.run_path(str(PARITY / "detectron2_reference.py"))["names_and_shapes"]().__getitem__
mmdetection_names = runpy.run_path(str(PARITY / "mmdetection_reference.py"))["listed"]
SECTIONS = {
    **{"LSJ": "lsj", "FPN_3x_gn": "gn", "FPN_9x_gn": "gn", "x_syncbn": "syncbn"},
    **{"X_101": "x101", "R_101": "r101", "R_50": "r50", "gn-all": "gn", "syncbn-all": "syncbn"},
    **{word: word for word in ("x101-32x4d", "x101-32x8d", "x101-64x4d", "r101", "r50")},
}
"""Part of a row's name -> where its network is listed. The first that fits counts."""
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BACKBONES = {
    **{"r_50": "resnet50", "r50": "resnet50", "r_101": "resnet101", "r101": "resnet101"},
    **{"x_101_32x8d": "resnext101_32x8d", "x101-32x8d": "resnext101_32x8d"},
    **{"x101-32x4d": "resnext101_32x4d", "x101-64x4d": "resnext101_64x4d"},
}
HOSTS = {
    "torchvision": ("download.pytorch.org", "docs.pytorch.org"),
    "detectron2": ("dl.fbaipublicfiles.com", "github.com/facebookresearch/detectron2"),
    "mmdet": ("download.openmmlab.com", "github.com/open-mmlab/mmdetection"),
    "mindspore": ("download.mindspore.cn", "github.com/mindspore-lab/models"),
    "msra": ("dl.fbaipublicfiles.com", "github.com/facebookresearch/detectron2"),
    "fair": ("dl.fbaipublicfiles.com", "github.com/facebookresearch/detectron2"),
    "timm": ("huggingface.co", "huggingface.co/timm"),
}
ROWS = [pytest.param(one, id=one.name) for one in PUBLISHED.values()]
D2 = "detectron2://COCO-InstanceSegmentation/mask_rcnn"


@pytest.mark.parametrize("one", ROWS)
def test_every_row_has_an_address_and_a_source_of_its_framework(one):
    host, source = HOSTS[one.framework]
    address = urlsplit(one.url)
    assert (address.scheme, address.netloc) == ("https", host)
    assert re.search(r"\.(pth|pkl|ckpt|safetensors)$", address.path)
    assert one.source.startswith(f"https://{source}/")
    assert one.preprocessing.startswith(("RGB, ", "BGR, "))


def listed(one):
    """Names and shapes of a row's tensors, from the lists of those that the makers build."""
    word = next(word for word in SECTIONS if word in one.name)
    found = (detectron2_names if one.framework == "detectron2" else mmdetection_names)(SECTIONS[word])
    if re.search("R_?101", one.name, re.IGNORECASE) and SECTIONS[word] != "r101":
        found = deepened(found)
    rows = {81: one.classes + 1, 320: 4 * one.classes, 80: one.classes}
    own = re.compile(r"^roi_heads\.(box_predictor|mask_head\.predictor)\.")
    return {name: (rows[shape[0]], *shape[1:]) if own.search(name) else shape for name, shape in found.items()}


def deepened(shapes):
    """Derive a ResNet-101 from the list of a ResNet-50: res4 has 23 blocks, not 6, all but the first alike."""
    last = {name: shape for name, shape in shapes.items() if re.search(r"\.(res4|layer3)\.5\.", name)}
    return {**shapes, **{n.replace(".5.", f".{i}.", 1): shape for i in range(6, 23) for n, shape in last.items()}}


def standin(one):
    """Tensors without numbers, but for those that tell MMDetection's style: Caffe's backbones have means of 0."""
    state = {name: torch.empty(shape, device="meta") for name, shape in listed(one).items()}
    if "backbone.bn1.running_mean" in state:
        from_caffe = re.search("caffe|32x8d", one.name) is not None
        state["backbone.bn1.running_mean"] = torch.full((64,), 0.0 if from_caffe else 0.5)
    return state


@pytest.mark.parametrize("one", [row for row in ROWS if row.values[0].framework in ("detectron2", "mmdet")])
def test_the_words_of_a_row_are_what_its_framework_describes(one):
    framework, state = {"detectron2": DETECTRON2, "mmdet": MMDETECTION}[one.framework], standin(one)
    tensors, recipe, _ = read(framework, state, one.name, one.overrides)
    assert {name: x.shape for name, x in tensors.items()} == shapes(recipe.model, one.classes)
    assert framework.describe(framework.modernise(state), one.name).bgr == one.preprocessing.startswith("BGR, ")
    assert recipe.data.mean == MEAN
    assert recipe.data.std == (DEVIATION if "divided by its deviation" in one.preprocessing else (1.0, 1.0, 1.0))
    assert recipe.model.backbone.stride_in_1x1 == one.stride_in_1x1
    short, long = map(int, re.search(r"short side (\d+), long side at most (\d+)$", one.preprocessing).groups())
    assert (recipe.data.short_sides, recipe.data.max_side) == ((short,), long)
    assert (recipe.model.backbone.norm == "group_norm") == (re.search("[_-]gn", one.name) is not None)
    assert recipe.model.backbone.kind == BACKBONES[re.search(r"[RX]_?\d+([_-]\d+x\d+d)?", one.name, re.I)[0].lower()]


DIVIDED = "0..255, minus ImageNet's mean, divided by its deviation; "


@pytest.mark.parametrize(
    ("name", "words", "stride_in_1x1"),
    [
        (f"{D2}_R_50_FPN_1x", "BGR, 0..255, minus ImageNet's mean; ", True),
        (f"{D2}_X_101_32x8d_FPN_3x", f"BGR, {DIVIDED}", False),
        ("mmdet://mask-rcnn_r50_fpn_1x_coco", f"RGB, {DIVIDED}", False),
        ("mmdet://mask-rcnn_r50-caffe_fpn_1x_coco", "BGR, 0..255, minus ImageNet's mean; ", True),
        (
            "mmdet://mask-rcnn_x101-32x8d_fpn_1x_coco",
            f"BGR, {DIVIDED}",
            False,
        ),
        ("mmdet://mask-rcnn_r50_fpn_gn-all_2x_coco", "BGR, 0..255, minus ImageNet's mean; ", False),
        ("mmdet://mask-rcnn_r50-contrib_fpn_gn-all_2x_coco", "RGB, ", False),
        (
            "torchvision://maskrcnn_resnet50_fpn_v2",
            f"RGB, {DIVIDED}",
            False,
        ),
        (
            "mindspore://mask_rcnn_resnet50_fpn_1x",
            f"RGB, {DIVIDED}",
            False,
        ),
        ("msra://R-101.pkl", "BGR, 0..255, minus ImageNet's mean; ", True),
        ("fair://X-101-32x8d.pkl", f"BGR, {DIVIDED}", False),
        ("fair://R-50-GN.pkl", "BGR, 0..255, minus ImageNet's mean; ", False),
    ],
)
def test_a_row_says_how_its_network_is_fed_and_where_its_stride_is(name, words, stride_in_1x1):
    assert find(name).preprocessing.startswith(words)
    assert find(name).stride_in_1x1 == stride_in_1x1


@pytest.mark.parametrize("one", ROWS)
def test_every_number_is_in_range_and_a_mask_is_harder_than_its_box(one):
    if one.classes == 0:
        assert (one.box_ap, one.mask_ap) == (None, None)
    else:
        assert 30 < one.mask_ap < 50
        assert one.box_ap is None or one.mask_ap < one.box_ap < 55
        assert one.box_ap is not None or one.name == "detectron2://Cityscapes/mask_rcnn_R_50_FPN"


@pytest.mark.parametrize("one", ROWS)
def test_every_digest_stands_in_the_name_of_its_file(one):
    if one.framework == "timm":  # its files have one name, and all of the digest is published
        assert re.fullmatch("[0-9a-f]{64}", one.sha256)
        return
    digits = re.search(r"[-_]([0-9a-f]{8}|[0-9a-f]{6})\.(pth|pkl)$", one.url)
    assert one.sha256 + one.md5 == (digits[1] if digits else "")
    assert len(one.sha256) == (8 if one.framework in ("torchvision", "mmdet") else 0)
    assert len(one.md5) == (6 if one.framework == "detectron2" else 0)


@pytest.mark.parametrize("one", ROWS)
def test_every_override_is_a_setting_and_a_value_that_it_may_have(one):
    recipe = override(Recipe(), one.overrides, one.name)
    assert (recipe != Recipe()) == (one.overrides != ())
    assert len(recipe.classes) == len(recipe.category_ids) == (one.classes if one.overrides else 0)


def test_no_two_rows_share_a_name_an_address_or_a_place_in_the_cache():
    assert len(list(zoo._published())) == len(PUBLISHED)
    assert len({one.url for one in PUBLISHED.values()}) == len(PUBLISHED)
    assert len({_cache_path(one.file) for one in PUBLISHED.values()}) == len(PUBLISHED)


@pytest.mark.parametrize(
    ("name", "end", "box", "mask", "classes"),
    [
        ("torchvision://maskrcnn_resnet50_fpn", "models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 37.9, 34.6, 90),
        (f"{D2}_R_50_FPN_3x", "mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl", 41.0, 37.2, 80),
        ("detectron2://Cityscapes/mask_rcnn_R_50_FPN", "142423278/model_final_af9cf5.pkl", None, 36.5, 8),
        (
            "mmdet://mask-rcnn_r50-caffe_fpn_ms-poly-3x_coco",
            "mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco/mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco_"
            "bbox_mAP-0.408__segm_mAP-0.37_20200504_163245-42aa3d00.pth",
            *(40.8, 37.0, 80),
        ),
        (
            "mmdet://mask-rcnn_r50-scratch_fpn_gn-all_6x_coco",
            "mask_rcnn_r50_fpn_gn-all_scratch_6x_coco/scratch_mask_rcnn_r50_fpn_gn_6x_bbox_mAP-0.412__segm_mAP-0.374_"
            "20200201_193051-1e190a40.pth",
            *(41.2, 37.4, 80),
        ),
        ("mindspore://mask_rcnn_resnet50_fpn_1x", "rcnn/MaskRCNN_det_resnet50_epoch12_rank0.ckpt", 37.8, 34.0, 80),
    ],
)
def test_rows_are_as_their_pages_have_them(name, end, box, mask, classes):
    one = find(name)
    assert one.url.endswith(f"/{end}")
    assert (one.box_ap, one.mask_ap, one.classes) == (box, mask, classes)


def test_cityscapes_brings_its_classes_and_sizes():
    one = find("detectron2://Cityscapes/mask_rcnn_R_50_FPN")
    recipe = read(DETECTRON2, standin(one), one.name, one.overrides).recipe
    assert (recipe.classes[:2], recipe.category_ids[:2]) == (("person", "rider"), (24, 25))
    assert (len(recipe.classes), len(recipe.category_ids)) == (8, 8)
    assert (recipe.data.short_sides, recipe.data.max_side, recipe.data.std) == ((1024,), 2048, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("torchvision://maskrcnn_resnet50", "torchvision://maskrcnn_resnet50_fpn"),
        ("detectron2://mask_rcnn_R_50_FPN_3", f"{D2}_R_50_FPN_3x"),
        ("mask_rcnn_X_101_32x8d_FPN", f"{D2}_X_101_32x8d_FPN_3x"),
        ("mmdet://mask_rcnn_r50_fpn_1x_coco", "mmdet://mask-rcnn_r50_fpn_1x_coco"),
        ("msra://R50", "msra://R-50.pkl"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(wrong, right):
    with pytest.raises(ValueError, match=rf"no published .* {re.escape(wrong)}; did you mean {re.escape(right)}, "):
        find(wrong)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"{D2}_R_50_C4_1x", r"on every box \(C4\)"),
        (f"{D2}_R_101_DC5_3x", r"dilated and feeds no pyramid"),
        ("detectron2://COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x", "keypoints, no masks"),
        ("detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x", "boxes, no masks"),
        ("detectron2://COCO-Detection/retinanet_R_50_FPN_1x", "boxes, no masks"),
        ("detectron2://Misc/cascade_mask_rcnn_R_50_FPN_3x", "three box heads"),
        ("detectron2://Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5", "deformable"),
        ("detectron2://COCO-PanopticSegmentation/panoptic_fpn_R_50_3x", "panoptic"),
        ("detectron2://LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", "LVIS"),
        ("detectron2://new_baselines/mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ", "not a ResNet"),
        ("torchvision://keypointrcnn_resnet50_fpn", "keypoints, no masks"),
        ("torchvision://fasterrcnn_resnet50_fpn_v2", "boxes, no masks"),
        ("mmdet://cascade-mask-rcnn_r50_fpn_1x_coco", "three box heads"),
        ("mmdet://mask-rcnn_r50_fpn_gn-ws-all_2x_coco", "standardise"),
        ("mmdet://mask-rcnn_r50_fpn_carafe_1x_coco", "another pyramid"),
        ("mmdet://mask-rcnn_swin-t-p4-w7_fpn_1x_coco", "not a ResNet"),
    ],
)
def test_what_cannot_be_read_yet_says_why(name, reason):
    with pytest.raises(ValueError, match=rf"cannot be read yet: .*{reason}"):
        find(name)


def test_nothing_that_can_be_read_is_refused():
    patterns = [pattern for some in REFUSED.values() for pattern in some]
    assert [name for name in PUBLISHED if any(fnmatchcase(name, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize("one", ROWS)
def test_a_detector_is_known_by_the_name_of_its_file(one):
    assert of_file(one.url.rpartition("/")[2]) == (one if one.classes else None)


@pytest.mark.parametrize("name", ["model_final.pkl", "final_a54504.pkl", "detectron2/model_final_a54504.pkl", ""])
def test_a_file_of_another_name_is_nobodys(name):
    assert of_file(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision://maskrcnn_resnet50_fpn", "detections, masks, losses and gradients beside torchvision"),
        (f"{D2}_R_50_FPN_3x", "detections and masks equal Detectron2's"),
        (f"{D2}_R_101_FPN_3x", "names, shapes, conventions"),
        ("detectron2://new_baselines/mask_rcnn_R_50_FPN_400ep_LSJ", "detections and masks equal Detectron2's"),
        ("detectron2://new_baselines/mask_rcnn_R_101_FPN_400ep_LSJ", "names, shapes, conventions"),
        ("detectron2://Misc/scratch_mask_rcnn_R_50_FPN_3x_gn", "detections and masks equal Detectron2's"),
        ("detectron2://Misc/scratch_mask_rcnn_R_50_FPN_9x_gn", "names, shapes, conventions"),
        ("detectron2://Misc/mask_rcnn_R_50_FPN_3x_syncbn", "names, shapes, conventions"),
        ("detectron2://Cityscapes/mask_rcnn_R_50_FPN", "names, shapes, conventions"),
        ("detectron2://Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x", "names, shapes, conventions"),
        ("mmdet://mask-rcnn_r50-caffe_fpn_ms-poly-3x_coco", "detections and masks equal MMDetection's"),
        ("mmdet://mask-rcnn_r50_fpn_gn-all_3x_coco", "detections and masks equal MMDetection's"),
        ("mmdet://mask-rcnn_r50-contrib_fpn_gn-all_3x_coco", "names, shapes, conventions"),
        ("mmdet://mask-rcnn_x101-32x8d_fpn_1x_coco", "names, shapes, conventions"),
        ("mindspore://mask_rcnn_resnet50_fpn_1x", "pyramid and heads equal the MindSpore network's"),
        ("fair://R-50-GN.pkl", "names"),
    ],
)
def test_the_page_says_what_was_checked(name, words):
    assert checked(find(name)).startswith(words)


def test_its_file_is_fetched_with_its_digits(monkeypatch):
    asked = []
    monkeypatch.setattr(zoo.web, "download", lambda url, path, **more: asked.append((url, path, more)) or Path(path))
    one = find(f"{D2}_R_50_FPN_1x")
    assert download(one, print) == Path("detectron2/model_final_a54504.pkl")
    assert asked == [(one.url, one.file, {"sha256": "", "md5": "a54504", "say": print, "progress": None})]


def test_the_printed_table_names_every_row_within_120_columns():
    lines = table().splitlines()
    assert max(map(len, lines)) <= 120
    assert [name for name in PUBLISHED if sum(f" {name} " in f"{line} " for line in lines) != 1] == []
    row = next(line for line in lines if "/mask_rcnn_R_50_FPN_3x " in line)
    head = lines[0]
    assert (row[: len(head)].split()[1:], row.rindex("37.2") + 4) == (["41.0", "37.2"], len(head))
    assert [line for line in lines if line and not line.startswith(" ")][1:] == [
        *("torchvision", "Detectron2", "MMDetection", "MindSpore"),
        *("Backbones trained on ImageNet, for model.backbone.pretrained", "Not readable yet"),
    ]


def test_the_page_is_in_step_with_the_table():
    written = (REPOSITORY / "docs" / "published.md").read_text(encoding="utf-8")
    assert written == page(), "out of date; run: python -m maskrcnn.convert.zoo docs/published.md"
