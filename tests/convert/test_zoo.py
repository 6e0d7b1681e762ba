"""The table of published checkpoints: complete, in range, and found by name."""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from maskrcnn.config import Recipe
from maskrcnn.convert import zoo
from maskrcnn.convert.download import _place
from maskrcnn.convert.maker import override
from maskrcnn.convert.zoo import PUBLISHED, REFUSED, bring, find, page, table

REPOSITORY = Path(__file__).parents[2]
HOSTS = {
    "torchvision": ("download.pytorch.org", "docs.pytorch.org"),
    "detectron2": ("dl.fbaipublicfiles.com", "github.com/facebookresearch/detectron2"),
    "mmdet": ("download.openmmlab.com", "github.com/open-mmlab/mmdetection"),
    "mindspore": ("download.mindspore.cn", "github.com/mindspore-lab/models"),
    "msra": ("dl.fbaipublicfiles.com", "github.com/facebookresearch/detectron2"),
    "fair": ("dl.fbaipublicfiles.com", "github.com/facebookresearch/detectron2"),
}
ROWS = [pytest.param(one, id=one.name) for one in PUBLISHED.values()]
D2 = "detectron2://COCO-InstanceSegmentation/mask_rcnn"


@pytest.mark.parametrize("one", ROWS)
def test_every_row_has_an_address_and_a_source_of_its_maker(one):
    host, source = HOSTS[one.maker]
    address = urlsplit(one.url)
    assert (address.scheme, address.netloc) == ("https", host)
    assert re.search(r"\.(pth|pkl|ckpt)$", address.path)
    assert one.source.startswith(f"https://{source}/")
    assert one.preprocessing.startswith(("RGB, ", "BGR, "))


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("torchvision://maskrcnn_resnet50_fpn_v2", "rgb"),
        (f"{D2}_X_101_32x8d_FPN_3x", "bgr"),
        ("mmdet://mask-rcnn_r50_fpn_1x_coco", "rgb"),
        ("mmdet://mask-rcnn_r50-caffe_fpn_1x_coco", "bgr"),
        ("mmdet://mask-rcnn_x101-32x8d_fpn_1x_coco", "bgr"),
        ("mmdet://mask-rcnn_r50_fpn_gn-all_2x_coco", "bgr"),
        ("mmdet://mask-rcnn_r50-contrib_fpn_gn-all_2x_coco", "rgb"),
        ("mindspore://mask_rcnn_resnet50_fpn_1x", "rgb"),
    ],
)
def test_a_row_knows_the_order_of_colours(name, channels):
    assert find(name).channels == channels


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
    digits = re.search(r"[-_]([0-9a-f]{8}|[0-9a-f]{6})\.(pth|pkl)$", one.url)
    assert one.sha256 + one.md5 == (digits[1] if digits else "")
    assert len(one.sha256) == (8 if one.maker in ("torchvision", "mmdet") else 0)
    assert len(one.md5) == (6 if one.maker == "detectron2" else 0)


@pytest.mark.parametrize("one", ROWS)
def test_every_override_is_a_setting_and_a_value_that_it_may_have(one):
    recipe = override(Recipe(), one.overrides, one.name)
    assert recipe.model.stride_in_1x1 == ("model.stride_in_1x1=true" in one.overrides)


def test_no_two_rows_share_a_name_an_address_or_a_place_in_the_cache():
    assert len(list(zoo._published())) == len(PUBLISHED)
    assert len({one.url for one in PUBLISHED.values()}) == len(PUBLISHED)
    assert len({_place(one.file) for one in PUBLISHED.values()}) == len(PUBLISHED)


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
    recipe = override(Recipe(), find("detectron2://Cityscapes/mask_rcnn_R_50_FPN").overrides, "")
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
        ("detectron2://new_baselines/mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ", "no ResNet"),
        ("torchvision://keypointrcnn_resnet50_fpn", "keypoints, no masks"),
        ("torchvision://fasterrcnn_resnet50_fpn_v2", "boxes, no masks"),
        ("mmdet://cascade-mask-rcnn_r50_fpn_1x_coco", "three box heads"),
        ("mmdet://mask-rcnn_r50_fpn_gn-ws-all_2x_coco", "standardise"),
        ("mmdet://mask-rcnn_r50_fpn_carafe_1x_coco", "its pyramid"),
        ("mmdet://mask-rcnn_swin-t-p4-w7_fpn_1x_coco", "no ResNet"),
    ],
)
def test_what_cannot_be_read_yet_says_why(name, reason):
    with pytest.raises(ValueError, match=rf"cannot be read yet: .*{reason}"):
        find(name)


def test_nothing_that_can_be_read_is_refused():
    patterns = [pattern for some in REFUSED.values() for pattern in some]
    assert [name for name in PUBLISHED if any(fnmatchcase(name, pattern) for pattern in patterns)] == []


def test_its_file_is_fetched_with_its_digits(monkeypatch):
    asked = []
    monkeypatch.setattr(zoo, "fetch", lambda url, path, **more: asked.append((url, path, more)) or Path(path))
    one = find(f"{D2}_R_50_FPN_1x")
    assert bring(one, print) == Path("detectron2/model_final_a54504.pkl")
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
        *("Backbones trained on ImageNet, for model.pretrained", "Not readable yet"),
    ]


def test_the_page_is_in_step_with_the_table():
    written = (REPOSITORY / "docs" / "published.md").read_text(encoding="utf-8")
    assert written == page(), "out of date; run: python -m maskrcnn.convert.zoo docs/published.md"
