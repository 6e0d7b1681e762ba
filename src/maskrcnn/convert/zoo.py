"""Published checkpoints: their addresses, published AP, and conventions that weights do not tell.

`python -m maskrcnn.convert.zoo docs/published.md` writes the page again.
"""

import re
import sys
from collections.abc import Iterator
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from maskrcnn.storage import download as web
from maskrcnn.storage.progress import Progress, Say


class Kind(NamedTuple):
    """Properties that several checkpoints share; see `Published`."""

    preprocessing: str
    stride_in_1x1: bool = False
    overrides: tuple[str, ...] = ()
    classes: int = 80


class Published(NamedTuple):
    """A checkpoint that its framework offers for download."""

    name: str
    """Name for commands, such as `torchvision://maskrcnn_resnet50_fpn`."""
    url: str
    box_ap: float | None
    """Box AP as published, in percent on COCO val2017 or Cityscapes val; None where nothing is published."""
    mask_ap: float | None
    source: str
    """Page with the published AP."""
    preprocessing: str
    """Preprocessing of an image, in words."""
    stride_in_1x1: bool
    """Whether a bottleneck has its stride in the first 1 x 1 convolution, as in MSRA's weights, or in the 3 x 3."""
    overrides: tuple[str, ...]
    """Settings that `Framework.describe` cannot tell even from the published name."""
    classes: int
    """Number of classes without the background; 0 for a backbone."""
    sha256: str = ""
    """Published digits of the SHA-256, all or the first ones."""
    md5: str = ""

    @property
    def framework(self) -> str:
        """Framework: the part of the name before `://`, or before the slash."""
        return re.split("://|/", self.name)[0]

    @property
    def file(self) -> str:
        """Path in the cache."""
        file = self.url.rpartition("/")[2]
        return f"{self.name}.safetensors" if self.name in _TIMM else f"{self.framework}/{file}"


_SIDES = "short side 800, long side at most 1333"
_LESS = f"BGR, 0..255, minus ImageNet's mean; {_SIDES}"
_OVER = f"0..255, minus ImageNet's mean, divided by its deviation; {_SIDES}"
_CITY = (
    "classes=[person,rider,car,truck,bus,train,motorcycle,bicycle]",
    "category_ids=[24,25,26,27,28,31,32,33]",
)
_KINDS = {
    "torchvision": Kind(f"RGB, {_OVER}, rounded down, without antialiasing", classes=90),
    "msra": Kind(_LESS, stride_in_1x1=True),
    "msra-city": Kind(_LESS.replace("800", "1024").replace("1333", "2048"), True, _CITY, 8),
    "plain": Kind(_LESS),
    "bgr": Kind(f"BGR, {_OVER}"),
    "rgb": Kind(f"RGB, {_OVER}"),
    "mindspore": Kind(f"RGB, {_OVER}".replace(_SIDES, "fitted into 768 x 1280 and padded with black")),
}

# Model, file, published box and mask AP, kind. The file's last digits are the first of its SHA-256.
_TORCHVISION = """
maskrcnn_resnet50_fpn     maskrcnn_resnet50_fpn_coco-bf2d0c1e     37.9  34.6  torchvision
maskrcnn_resnet50_fpn_v2  maskrcnn_resnet50_fpn_v2_coco-73cbd019  47.4  41.8  torchvision
"""

# Configuration, run and file, published box and mask AP, kind. The file's last digits are the first of its MD5.
_DETECTRON2 = """
COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x         137260431/model_final_a54504  38.6  35.2  msra
COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x         137849600/model_final_f10217  41.0  37.2  msra
COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x        138205316/model_final_a3ec72  42.9  38.6  msra
COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x  139653917/model_final_2d9806  44.3  39.5  bgr
new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ              42047764/model_final_bb69de   44.6  40.3  msra
new_baselines/mask_rcnn_R_50_FPN_200ep_LSJ              42047638/model_final_89a8d3   46.3  41.7  msra
new_baselines/mask_rcnn_R_50_FPN_400ep_LSJ              42019571/model_final_14d201   47.4  42.5  msra
new_baselines/mask_rcnn_R_101_FPN_100ep_LSJ             42025812/model_final_4f7b58   46.4  41.6  msra
new_baselines/mask_rcnn_R_101_FPN_200ep_LSJ             42131867/model_final_0bb7ae   48.0  43.1  msra
new_baselines/mask_rcnn_R_101_FPN_400ep_LSJ             42073830/model_final_f96b26   48.9  43.7  msra
Cityscapes/mask_rcnn_R_50_FPN                           142423278/model_final_af9cf5  -     36.5  msra-city
Misc/mask_rcnn_R_50_FPN_3x_gn                           138602888/model_final_dc5d9e  42.6  38.6  plain
Misc/mask_rcnn_R_50_FPN_3x_syncbn                       169527823/model_final_3b3c51  41.9  37.8  msra
Misc/scratch_mask_rcnn_R_50_FPN_3x_gn                   138602908/model_final_01ca85  39.9  36.6  plain
Misc/scratch_mask_rcnn_R_50_FPN_9x_gn                   183808979/model_final_da7b4c  43.7  39.6  bgr
Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn               184226666/model_final_5ce33e  43.6  39.3  bgr
Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x      137781281/model_final_62ca52  37.8  34.9  msra
"""

# Configuration (mask-rcnn_THIS_coco), address (FOLDER/mask_rcnn_RUN_coco/mask_rcnn_RUN_coco_END.pth; * is both AP),
# published box and mask AP, kind. The last digits of the address are the first of the file's SHA-256.
_MMDET = """
r50-caffe_fpn_1x              mask_rcnn/r50_caffe_fpn_1x/*20200504_231812-0ebd1859                  38.0  34.4  msra
r50_fpn_1x                    mask_rcnn/r50_fpn_1x/20200205-d4b0c5d6                                38.2  34.7  rgb
r50_fpn_amp-1x                fp16/r50_fpn_fp16_1x/20200205-59faf7e4                                38.1  34.7  rgb
r50_fpn_2x                    mask_rcnn/r50_fpn_2x/*20200505_003907-3e542a40                        39.2  35.4  rgb
r101-caffe_fpn_1x             mask_rcnn/r101_caffe_fpn_1x/20200601_095758-805e06c1                  40.4  36.4  msra
r101_fpn_1x                   mask_rcnn/r101_fpn_1x/20200204-1efe0ed5                               40.0  36.1  rgb
r101_fpn_2x                   mask_rcnn/r101_fpn_2x/*20200505_071027-14b391c7                       40.8  36.6  rgb
x101-32x4d_fpn_1x             mask_rcnn/x101_32x4d_fpn_1x/20200205-478d0b67                         41.9  37.5  rgb
x101-32x4d_fpn_2x             mask_rcnn/x101_32x4d_fpn_2x/*20200506_004702-faef898c                 42.2  37.8  rgb
x101-64x4d_fpn_1x             mask_rcnn/x101_64x4d_fpn_1x/20200201-9352eb0d                         42.8  38.4  rgb
x101-64x4d_fpn_2x             mask_rcnn/x101_64x4d_fpn_2x/20200509_224208-39d6f70c                  42.7  38.1  rgb
x101-32x8d_fpn_1x             mask_rcnn/x101_32x8d_fpn_1x/20220630_173841-0aaf329e                  42.8  38.3  bgr
r50-caffe_fpn_ms-poly-2x      mask_rcnn/r50_caffe_fpn_mstrain-poly_2x/*20200504_231822-a75c98ce     40.3  36.5  msra
r50-caffe_fpn_ms-poly-3x      mask_rcnn/r50_caffe_fpn_mstrain-poly_3x/*20200504_163245-42aa3d00     40.8  37.0  msra
r50_fpn_ms-poly-3x            mask_rcnn/r50_fpn_mstrain-poly_3x/20210524_201154-21b550bb            40.9  37.1  rgb
r101_fpn_ms-poly-3x           mask_rcnn/r101_fpn_mstrain-poly_3x/20210524_200244-5675c317           42.7  38.5  rgb
r101-caffe_fpn_ms-poly-3x     mask_rcnn/r101_caffe_fpn_mstrain-poly_3x/20210526_132339-3c33ce02     42.9  38.5  msra
x101-32x4d_fpn_ms-poly-3x     mask_rcnn/x101_32x4d_fpn_mstrain-poly_3x/20210524_201410-abcd7859     43.6  39.0  rgb
x101-32x8d_fpn_ms-poly-1x     mask_rcnn/x101_32x8d_fpn_mstrain-poly_1x/20220630_170346-b4637974     43.4  39.0  bgr
x101-32x8d_fpn_ms-poly-3x     mask_rcnn/x101_32x8d_fpn_mstrain-poly_3x/20210607_161042-8bd2c639     44.3  39.5  bgr
x101-64x4d_fpn_ms-poly_3x     mask_rcnn/x101_64x4d_fpn_mstrain-poly_3x/20210526_120447-c376f129     44.5  39.7  rgb
r50_fpn_gn-all_2x             gn/r50_fpn_gn-all_2x/20200206-8eee02a6                                40.2  36.4  plain
r50_fpn_gn-all_3x             gn/r50_fpn_gn-all_3x/20200214-8b23b1e5                                40.5  36.7  plain
r101_fpn_gn-all_2x            gn/r101_fpn_gn-all_2x/20200205-d96b1b50                               41.9  37.6  plain
r101_fpn_gn-all_3x            gn/r101_fpn_gn-all_3x/20200513_181609-0df864f4                        42.1  38.0  plain
r50-contrib_fpn_gn-all_2x     gn/r50_fpn_gn-all_contrib_2x/20200207-20d3e849                        40.0  36.1  rgb
r50-contrib_fpn_gn-all_3x     gn/r50_fpn_gn-all_contrib_3x/20200225-542aefbc                        40.1  36.2  rgb
r50-scratch_fpn_gn-all_6x \
    scratch/r50_fpn_gn-all_scratch_6x/scratch_mask_rcnn_r50_fpn_gn_6x_*20200201_193051-1e190a40  41.2  37.4  rgb
r50-rsb-pre_fpn_1x            resnet_strikes_back/r50_fpn_rsb-pretrain_1x/20220113_174054-06ce8ba0  41.2  38.2  rgb
r50_fpn_instaboost-4x         instaboost/r50_fpn_instaboost_4x/20200307-d025f83a                    40.6  36.6  rgb
r101_fpn_instaboost-4x        instaboost/r101_fpn_instaboost_4x/20200703_235738-f23f3a5f            42.5  38.0  rgb
x101-64x4d_fpn_instaboost-4x  instaboost/x101_64x4d_fpn_instaboost_4x/20200515_080947-8ed58c1b      44.7  39.7  rgb
r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-270k \
    simple_copy_paste/r50_fpn_syncbn-all_rpn-2conv_ssj_32x2_270k/20220324_182940-33a100c5  43.5  39.1  rgb
r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-90k \
    simple_copy_paste/r50_fpn_syncbn-all_rpn-2conv_ssj_32x2_90k/20220316_181409-f79c84c5  43.3  39.0  rgb
r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-scp-270k \
    simple_copy_paste/r50_fpn_syncbn-all_rpn-2conv_ssj_scp_32x2_270k/20220324_201229-80ee90b7  45.1  40.3  rgb
r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-scp-90k \
    simple_copy_paste/r50_fpn_syncbn-all_rpn-2conv_ssj_scp_32x2_90k/20220316_181307-6bc5726f  43.8  39.2  rgb
r50_fpn_albu-1x               albu_example/r50_fpn_albu_1x/20200208-ab203bcd                        38.0  34.5  rgb
r50-syncbn_fpn_1x             gcnet/r50_fpn_syncbn-backbone_1x/20200202-bb3eb55c                    38.4  34.6  rgb
r101-syncbn_fpn_1x            gcnet/r101_fpn_syncbn-backbone_1x/20200210-81658c8a                   40.5  36.3  rgb
x101-32x4d-syncbn_fpn_1x      gcnet/x101_32x4d_fpn_syncbn-backbone_1x/20200211-7584841c             42.4  37.7  rgb
"""

# Name of a backbone, address, kind; without published digits.
_FACEBOOK = "https://dl.fbaipublicfiles.com"
_BACKBONES = {
    "msra://R-50.pkl": (f"{_FACEBOOK}/detectron2/ImageNetPretrained/MSRA/R-50.pkl", "msra"),
    "msra://R-101.pkl": (f"{_FACEBOOK}/detectron2/ImageNetPretrained/MSRA/R-101.pkl", "msra"),
    "fair://X-101-32x8d.pkl": (f"{_FACEBOOK}/detectron2/ImageNetPretrained/FAIR/X-101-32x8d.pkl", "bgr"),
    "fair://R-50-GN.pkl": (f"{_FACEBOOK}/detectron/ImageNetPretrained/47261647/R-50-GN.pkl", "plain"),
    "fair://R-101-GN.pkl": (f"{_FACEBOOK}/detectron/ImageNetPretrained/47592356/R-101-GN.pkl", "plain"),
}

# Name of a backbone at the Hugging Face hub, SHA-256 of its `model.safetensors`.
_TIMM = {"timm/resnet50.a1_in1k": "773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb"}

REFUSED = {
    "it predicts boxes, no masks": (
        *("detectron2://COCO-Detection/*", "detectron2://PascalVOC-Detection/*", "detectron2://*/faster_rcnn_*"),
        *("torchvision://fasterrcnn_*", "torchvision://retinanet_*", "torchvision://fcos_*", "torchvision://ssd*"),
    ),
    "it predicts keypoints, no masks": ("detectron2://*/keypoint_rcnn_*", "torchvision://keypointrcnn_*"),
    "it has a further head, for panoptic segmentation": ("detectron2://*/panoptic_fpn_*",),
    "its heads run res5 on every box (C4); ours have layers of their own": ("detectron2://*/mask_rcnn_*_C4_*",),
    "its res5 is dilated and feeds no pyramid (DC5)": ("detectron2://*/mask_rcnn_*_DC5_*",),
    "three box heads refine each other (Cascade R-CNN)": ("detectron2://*/cascade_*", "mmdet://cascade-*"),
    "it has deformable convolutions": ("detectron2://*_dconv_*", "mmdet://mask-rcnn_*dconv*"),
    "it has global context blocks": ("mmdet://mask-rcnn_*gcb*",),
    "its convolutions standardise their weights": ("mmdet://mask-rcnn_*gn?ws*",),
    "it has another pyramid or another RoI pooling": ("mmdet://*_fpg*", "mmdet://*carafe*", "mmdet://*groie*"),
    "it has the classes of LVIS, whose names are not part of this package": ("detectron2://LVIS*", "mmdet://*_lvis*"),
    "its backbone is not a ResNet or ResNeXt": (
        *("detectron2://*regnet*", "mmdet://*regnet*", "mmdet://*hrnet*", "mmdet://*swin*", "mmdet://*convnext*"),
        *("mmdet://*res2net*", "mmdet://mask-rcnn_s50*", "mmdet://mask-rcnn_s101*"),
    ),
}
"""Reasons why some cannot be read yet, with patterns of their names."""

_EQUAL = "detections and masks equal {}'s on the same generated weights"
CHECKED = {
    "detections, masks, losses and gradients beside torchvision (`make parity`)": ("torchvision://*",),
    _EQUAL.format("Detectron2"): (
        *("detectron2://COCO-*_R_50_FPN_?x", "detectron2://COCO-*_X_101_32x8d_FPN_3x"),
        *("detectron2://new_baselines/*_R_50_FPN_*_LSJ", "detectron2://Misc/*_R_50_FPN_3x_gn"),
    ),
    _EQUAL.format("MMDetection"): ("mmdet://mask-rcnn_r50_fpn_*", "mmdet://mask-rcnn_r50-caffe_fpn_*"),
    "pyramid and heads equal the MindSpore network's on the same generated weights": ("mindspore://*",),
    "names, shapes, conventions": ("detectron2://*", "mmdet://*"),
    "names": ("msra://*", "fair://*", "timm/*"),
}
"""Checks made here, with patterns of the names they are made for; the first match counts."""

FRAMEWORKS = {
    "torchvision": "torchvision",
    "detectron2": "Detectron2",
    "mmdet": "MMDetection",
    "mindspore": "MindSpore",
}
BACKBONES = "Backbones trained on ImageNet, for model.backbone.pretrained"


def _published() -> Iterator[Published]:
    for name, file, box, mask, kind in _rows(_TORCHVISION):
        url = f"https://download.pytorch.org/models/{file}.pth"
        source = "https://docs.pytorch.org/vision/stable/models.html"
        yield Published(f"torchvision://{name}", url, box, mask, source, *_KINDS[kind], sha256=file[-8:])
    code = "https://github.com/facebookresearch/detectron2/blob/main"
    for name, file, box, mask, kind in _rows(_DETECTRON2):
        url = f"{_FACEBOOK}/detectron2/{name}/{file}.pkl"
        folder = name.partition("/")[0]
        source = f"{code}/" + ("MODEL_ZOO.md" if folder != "Detectron1-Comparisons" else f"configs/{folder}/README.md")
        yield Published(f"detectron2://{name}", url, box, mask, source, *_KINDS[kind], md5=file[-6:])
    for name, file, box, mask, kind in _rows(_MMDET):
        folder, run, end = file.replace("*", f"bbox_mAP-{(box or 0) / 100:g}__segm_mAP-{(mask or 0) / 100:g}_").split(
            "/"
        )
        run = f"mask_rcnn_{run}_coco"
        file = end if "mask_rcnn" in end else f"{run}_{end}"
        url = f"https://download.openmmlab.com/mmdetection/v2.0/{folder}/{run}/{file}.pth"
        page = folder.replace("fp16", "mask_rcnn")  # where its numbers went
        source = f"https://github.com/open-mmlab/mmdetection/blob/main/configs/{page}/README.md"
        yield Published(f"mmdet://mask-rcnn_{name}_coco", url, box, mask, source, *_KINDS[kind], sha256=end[-8:])
    url = "https://download.mindspore.cn/model_zoo/official/cv/rcnn/MaskRCNN_det_resnet50_epoch12_rank0.ckpt"
    # Since November 2024 the page no longer names the file.
    source = "https://github.com/mindspore-lab/models/blob/7c04d53/official/cv/RCNN/config/maskrcnn/README.md"
    yield Published("mindspore://mask_rcnn_resnet50_fpn_1x", url, 37.8, 34.0, source, *_KINDS["mindspore"])
    for name, (url, kind) in _BACKBONES.items():
        yield Published(name, url, None, None, f"{code}/MODEL_ZOO.md", *_KINDS[kind]._replace(classes=0))
    for name, digest in _TIMM.items():
        page = f"https://huggingface.co/{name}"
        url = f"{page}/resolve/main/model.safetensors"
        yield Published(name, url, None, None, page, *_KINDS["rgb"]._replace(classes=0), sha256=digest)


def _rows(table: str) -> Iterator[tuple[str, str, float | None, float | None, str]]:
    for line in table.strip().splitlines():
        name, file, box, mask, kind = line.split()
        yield name, file, None if box == "-" else float(box), None if mask == "-" else float(mask), kind


PUBLISHED = {one.name: one for one in _published()}
"""Published checkpoints by name, in the order of the lists."""
SCHEMES = tuple(sorted({f"{name.partition('://')[0]}://" for name in PUBLISHED if "://" in name}))
"""Beginnings of names that no path has."""


def is_name(source: object) -> bool:
    """Whether a text begins as names of published checkpoints do, as `torchvision://`; `timm/` may begin a path."""
    name = str(source)
    return name.startswith(SCHEMES) or (name.startswith("timm/") and not Path(name).exists())


def find(name: str) -> Published:
    """Return the checkpoint of a name. Raises ValueError with the nearest names, or why it cannot be read yet."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    for reason, patterns in REFUSED.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            raise ValueError(f"{name} cannot be read yet: {reason}; `maskrcnn convert --list` names what can")
    near = sorted(PUBLISHED, key=lambda one: _likeness(name, one), reverse=True)[:3]
    raise ValueError(
        f"no published checkpoint is called {name}; did you mean {', '.join(near)}? "
        "`maskrcnn convert --list` names them all"
    )


def of_file(file_name: str) -> Published | None:
    """Return the detector published under this file name. Backbones have none: others share names such as R-50.pkl."""
    return next((one for one in PUBLISHED.values() if one.classes and one.file.endswith(f"/{file_name}")), None)


def download(one: Published, say: Say = print, progress: Progress | None = None) -> Path:
    """Return its file, from the cache or downloaded into it. Raises as `storage.download` does."""
    return web.download(one.url, one.file, sha256=one.sha256, md5=one.md5, say=say, progress=progress)


def table() -> str:
    """Write what `maskrcnn convert --list` prints, within 120 columns: what can be read, and what cannot."""
    width = max(map(len, PUBLISHED))
    lines = [f"{'name':<{width + 4}}  box AP  mask AP"]
    for title, rows in groupby(PUBLISHED.values(), _title):
        lines += ["", title]
        for source, some in groupby(rows, lambda one: one.source):
            lines += [f"  {source}"]
            lines += [f"    {one.name:<{width}}  {_ap(one.box_ap):>6}  {_ap(one.mask_ap):>7}".rstrip() for one in some]
    lines += ["", "Not readable yet"]
    for reason, patterns in REFUSED.items():
        lines += [f"  {reason}", *(f"    {pattern}" for pattern in patterns)]
    return "\n".join(lines)


def page() -> str:
    """Write the page docs/published.md."""
    lines = [_HEAD.strip()]
    for title, rows in groupby(PUBLISHED.values(), _title):
        lines += ["", f"## {title}", "", "| name | box AP | mask AP | published at | checked here |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for one in rows:
            link = f"[{one.source.rpartition('/')[2]}]({one.source})"
            lines += [f"| `{one.name}` | {_ap(one.box_ap)} | {_ap(one.mask_ap)} | {link} | {checked(one)} |"]
    lines += ["", "## Not readable yet", "", "| why | names |", "| --- | --- |"]
    lines += [f"| {reason} | `{'`, `'.join(patterns)}` |" for reason, patterns in REFUSED.items()]
    return "\n".join(lines) + "\n"


def checked(one: Published) -> str:
    """Say what tests of this repository compare with its framework, in the words of the page."""
    return next(words for words, patterns in CHECKED.items() if any(fnmatchcase(one.name, p) for p in patterns))


_HEAD = """
# Published checkpoints

Each of these names stands for a published file. It is downloaded once, into the folder that `maskrcnn doctor` prints,
checked against the published digits (only against its length where none are published), and read without running
anything in it. AP is in percent on COCO val2017, or on Cityscapes val, as published. Detectron2's weights have the
licence CC BY-SA 3.0.

The last column says what tests of this repository check, with generated weights of the same names and shapes: no
published file was downloaded. Conventions are the channel order, the deviation that pixels are divided by, the stride
of bottlenecks, the size of images, and the classes.

The MindSpore system's mask AP is as it published it; its code
[cannot measure it](coming_from.md#from-the-mindspore-system).

`python -m maskrcnn.convert.zoo docs/published.md` writes this page.
"""


def _title(one: Published) -> str:
    return FRAMEWORKS.get(one.framework, BACKBONES)


def _ap(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _likeness(name: str, other: str) -> tuple[float, float]:
    """Compare the parts after the last slash, then the whole names."""
    pairs = ((name.rpartition("/")[2], other.rpartition("/")[2]), (name, other))
    first, second = (SequenceMatcher(None, one.lower(), two.lower()).ratio() for one, two in pairs)
    return first, second


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
