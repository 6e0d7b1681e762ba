"""Makes `stored/mindspore_photos.safetensors`: what the MindSpore system finds in eight photos, from the JPEG on.

    python tests/parity/mindspore_photos_reference.py MODELS PHOTOS [--commit HASH] [--all FOLDER]

MODELS is a checkout of https://github.com/mindspore-lab/models, PHOTOS a folder with COCO's val2017. The environment
needs mindspore 2.10, numpy<2, mindcv, opencv-python-headless, pycocotools, PyYAML and safetensors; it needs neither
torch nor this project. Takes ten minutes on one core.

All is that system's own code, as its evaluation calls it: reading, preprocessing, network and suppression. Two things
spare an hour for each photo: convolutions are numpy's matrix products, since MindSpore's run in oneDNN's plainest
loops (0.3 GMAC/s), and masks are predicted only for proposals that some of the best detections come from.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from mindspore_reference import network  # noqa: E402
from weights import arrays  # noqa: E402

SEED = 14
NUM_CLASSES = 80
LANDSCAPE = ("000000000139", "000000034417", "000000073326", "000000217285")
PORTRAIT = ("000000109313", "000000151938", "000000183709", "000000231125")
NUM_BEST = 100
"""Detections of a photo that count: COCO's limit."""
STEM = "backbone.bottom_up.conv1.weight"
OBJECTNESS = "rpn_head.rpn_feat.rpn_rois_score.weight"
CLASS_BIAS = "bbox_head.bbox_cls.bias"
GAINS = {
    STEM: 1.5,
    OBJECTNESS: 0.15,
    "rpn_head.rpn_feat.rpn_rois_delta.weight": 0.5,
    "bbox_head.bbox_cls.weight": 1.4,
}
"""Factors of some weights. Objectness stays below 4: towards 1, float32 sigmoids become equal."""
IN_PADDING = -3.0
"""Objectness in the padding, all of whose cells are equal. Where candidates are equal, `NMSWithMask` sorts them anew,
and its mask no longer belongs to the boxes in the order that the network has them in."""


def weights(shapes: Mapping[str, tuple[int, ...]], balanced: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """New weights, by which objects of many classes are found, and not by the noise of a level.

    balanced   weights that `balance` made, if it has
    The stem's filters are smoothed, as trained ones are: those of white noise see nothing but edges of pixels, and a
    quarter of a level decides which of two boxes stays.
    """
    made = arrays(shapes, SEED)
    for _ in range(3):
        made[STEM] = smoothed(made[STEM])
    return {**made, **{name: made[name] * np.float32(gain) for name, gain in GAINS.items()}, **balanced}


def smoothed(filters: np.ndarray) -> np.ndarray:
    """Binomial means of 5 x 5 neighbours, zeros beyond the borders."""
    for axis in (2, 3):
        sides = [(2, 2) if number == axis else (0, 0) for number in range(4)]
        padded, length = np.pad(filters, sides), filters.shape[axis]
        taps = (weight * padded.take(range(k, k + length), axis) for k, weight in enumerate((1, 4, 6, 4, 1)))
        filters = sum(taps, np.zeros_like(filters)) / np.float32(16)
    return filters


def convolve_in_numpy() -> None:
    """Let numpy compute what `nn.Conv2d` does."""
    import mindspore as ms

    def construct(layer, x):
        rim = layer.padding if layer.pad_mode == "pad" else 0
        assert rim or layer.pad_mode == "pad" or max(layer.kernel_size) == 1
        out = convolved(x.asnumpy(), layer.weight.asnumpy(), layer.stride[0], rim)
        return ms.Tensor(out + layer.bias.asnumpy()[:, None, None] if layer.has_bias else out)

    ms.nn.Conv2d.construct = construct


def convolved(x: np.ndarray, filters: np.ndarray, stride: int, rim: int) -> np.ndarray:
    """The convolution of (B, C, H, W) with (K, C, side, side), a product of matrices for each tap."""
    side = filters.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), (rim, rim), (rim, rim)))
    height, width = ((length - side) // stride + 1 for length in x.shape[2:])
    out = np.zeros((len(x), len(filters), height * width), np.float32)
    taps = np.ascontiguousarray(filters.transpose(2, 3, 0, 1))  # numpy leaves other strides to a plain loop
    for i in range(side):
        rows = x[:, :, i : i + stride * height : stride]
        for j in range(side):
            cells = rows[:, :, :height, j : j + stride * width : stride][..., :width]
            out += taps[i, j] @ cells.reshape(*cells.shape[:2], -1)
    return out.reshape(len(x), -1, height, width)


def preprocessed(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """What the network is fed for a photo, (1, 3, H, W), and the photo's (height, width)."""
    import cv2
    from src.dataset.transforms_factory import create_transform
    from src.utils.config import Config, load_config

    settings = Config(load_config("config/maskrcnn/mask_rcnn_resnet50_fpn_1x.yml")[0])
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    size, boxes, labels = image.shape[:2], np.zeros((1, 4), np.float32), np.zeros((1, 1), np.int32)
    for transform in settings.data.eval_transforms.item_transforms:
        image, boxes, labels = create_transform(transform)(image, boxes, labels)
    return np.ascontiguousarray(image[None]), size


def balance(net, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Change two weights: no class is found everywhere, and nothing in the padding.

    pixels   of a portrait: its right half is padding
    """
    import mindspore as ms

    pyramid, feat, head = net.backbone(ms.Tensor(pixels)), net.rpn_head.rpn_feat, net.bbox_head
    hidden = [feat.relu(feat.rpn_conv(level)).asnumpy()[0] for level in pyramid[:4]]
    around = np.stack([x[:, x.shape[1] // 2, x.shape[2] * 3 // 4] for x in hidden])
    rows = feat.rpn_rois_score.weight.asnumpy()[:, :, 0, 0]
    wanted = IN_PADDING - feat.rpn_rois_score.bias.asnumpy() - around @ rows.T
    rows = (rows + (np.linalg.pinv(around) @ wanted).T)[:, :, None, None]
    feat.rpn_rois_score.weight.set_data(ms.Tensor(rows))
    proposals, valid = net.rpn_head.predict(pyramid, pixels.shape[2:])
    logits = head.bbox_cls(head.head(head.roi_extractor(pyramid, proposals, valid))).asnumpy()[valid.asnumpy()[0]]
    bias = head.bbox_cls.bias.asnumpy() - logits.mean(axis=0)
    head.bbox_cls.bias.set_data(ms.Tensor(bias))
    return {OBJECTNESS: rows, CLASS_BIAS: bias}


def best(net, pixels: np.ndarray, size: tuple[int, int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The best detections of a photo, boxes in its pixels, labels from 0, and the proposals they come from."""
    import mindspore as ms
    from src.utils.nms import multiclass_nms

    pyramid = net.backbone(ms.Tensor(pixels))
    proposals, valid = net.rpn_head.predict(pyramid, pixels.shape[2:])
    predicted = net.bbox_head.predict(pyramid, proposals, valid).asnumpy()[0]
    corners, scores = np.split(predicted, [4 * NUM_CLASSES], axis=1)
    numbers = np.broadcast_to(np.arange(len(corners))[:, None, None, None], (len(corners), NUM_CLASSES, 1, 1))
    kept, source = multiclass_nms(corners, scores, 0.05, 0.5, multi_masks=numbers)
    order = np.argsort(-kept[:, 5], kind="stable")[:NUM_BEST]
    labels, source = kept[order, 6].astype(np.int64), source[order, 0, 0]
    every = ms.Tensor(np.ones((1, len(source)), bool))
    masks = net.mask_head.predict(pyramid, ms.Tensor(proposals.asnumpy()[:, source]), every).asnumpy()
    boxes = kept[order, :4] / min(side / own for side, own in zip(pixels.shape[2:], size, strict=True))
    found = {
        "boxes": boxes.clip(0, np.array([*size[::-1], *size[::-1]])).astype(np.float32),
        "labels": labels,
        "scores": kept[order, 5].astype(np.float32),
        "masks": masks[np.arange(len(order)), labels],
    }
    return found, {"pixels": pixels, "proposals": proposals.asnumpy()[0], "valid": valid.asnumpy()[0]}


def packed(name: str, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is stored of a photo's detections; masks are not, since there they belong to proposals."""
    labels = found["labels"].astype(np.uint8)
    return {f"{name}.boxes": found["boxes"], f"{name}.labels": labels, f"{name}.scores": found["scores"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--commit", help="of the checkout, where git cannot tell")
    parser.add_argument("--all", type=Path, help="also write masks and stages, to this folder")
    options = parser.parse_args()
    git = ["git", "-C", str(options.models), "rev-parse", "HEAD"]
    commit = options.commit or subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    import mindspore
    from safetensors.numpy import save_file

    target, folder = HERE.resolve() / "stored" / "mindspore_photos.safetensors", options.photos.resolve()
    every = options.all and options.all.resolve()
    net = network(options.models.resolve() / "official/cv/RCNN", lambda shapes: weights(shapes, {}))
    convolve_in_numpy()
    tensors = balance(net, preprocessed(folder / f"{PORTRAIT[0]}.jpg")[0])
    marks = {}
    for name in (*LANDSCAPE, *PORTRAIT):
        path = folder / f"{name}.jpg"
        found, stages = best(net, *preprocessed(path))
        print(name, len(found["scores"]), "detections, scores", found["scores"][[0, -1]], flush=True)
        if every:
            np.savez(every / f"{name}.npz", **found, **stages)
        tensors |= packed(name, found)
        marks[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"source": "mindspore-lab/models official/cv/RCNN", "commit": commit, "mindspore": mindspore.__version__}
    save_file(tensors, target, metadata={**about, "photos": json.dumps(marks)})
    print(f"wrote {target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
