"""Makes `stored/torchvision_*.safetensors`: what torchvision's Mask R-CNN says of known pictures with known weights.

    python tests/parity/torchvision_reference.py PHOTOS [--only NAME]

PHOTOS is a folder of JPEG files. The environment needs torchvision 0.29, torch, numpy, pillow, pycocotools and
safetensors. `test_torchvision.py` compares with torchvision itself where it is installed; these numbers are for where
it is not.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

try:
    from .detectron2_reference import CLASSES as COCO_INDICES
    from .detectron2_reference import POLYGONS, entries, step, to_uint16, write
    from .weights import arrays, picture
except ImportError:  # run as a script
    from detectron2_reference import CLASSES as COCO_INDICES
    from detectron2_reference import POLYGONS, entries, step, to_uint16, write
    from weights import arrays, picture

STORED = Path(__file__).parent / "stored"

HEIGHT, WIDTH = 200, 280
"""Padded to 224 x 288, whose coarsest levels have 4 x 5 cells: 56 x 57 pixels apart, and not 64."""
PHOTO_SIDE, NUM_PHOTOS = 256, 8
HEADS = 24
"""Proposals whose logits and deltas are stored, spread over all."""
MASKS, PHOTO_MASKS = 16, 3
FEWEST, MOST = 8, 40
"""Detections of a photo; those with more take long in the tests."""


class Case(NamedTuple):
    """A model, and how its random weights are made to find much without leaving it to chance."""

    seed: int
    candidates: int
    """Boxes of each level before suppression; few bring the coarse levels to bear."""
    proposals: int
    """Of training."""
    contrast: float
    """Factor of the classifier's weights."""
    background: float
    """What the background's logit has above the mean of the others."""
    photo_score: float
    """Least score of a photo's detections."""


CASES = {"v1": Case(7, 300, 150, 0.75, 11.0, 0.1), "v2": Case(2, 60, 60, 1.0, 10.6, 0.3)}
CLASSIFIER = "roi_heads.box_predictor.cls_score"
STILL = 8
"""Channels of the first version's stem that hardly vary, as some of ImageNet's do: there eps is most of the root."""


def weights(name: str, shapes: Mapping[str, tuple[int, ...]], bias: np.ndarray) -> dict[str, np.ndarray]:
    """Under torchvision's names.

    bias   of the classifier: brings every class's mean logit to zero, since random features have a mean that would
           find the same few classes everywhere
    """
    case = CASES[name]
    found = arrays(shapes, case.seed)
    found[f"{CLASSIFIER}.weight"] = found[f"{CLASSIFIER}.weight"] * np.float32(case.contrast)
    if name == "v1":
        found["backbone.body.bn1.running_var"][:STILL] = 2.0**-16
        found["backbone.body.bn1.weight"][:STILL] *= 2.0**-8
    return {**found, f"{CLASSIFIER}.bias": bias}


def build(name: str, side: int, published: bool = True, **settings: Any) -> Any:
    """`maskrcnn_resnet50_fpn` with frozen norms, or its `_v2`, for pictures of a short side.

    published   with the eps of 0 that torchvision gives the norms of its first published file
    """
    from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
    from torchvision.models.detection._utils import overwrite_eps
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    settings = {"min_size": side, "rpn_pre_nms_top_n_test": CASES[name].candidates, **settings}
    if name == "v2":
        return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **settings).eval()
    model = MaskRCNN(resnet_fpn_backbone(backbone_name="resnet50", weights=None), 91, **settings).eval()
    if published:
        overwrite_eps(model, 0.0)
    return model


def fill(model: Any, name: str, bias: np.ndarray) -> None:
    """Give the model its weights."""
    import torch

    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(x) for key, x in weights(name, shapes, bias).items()})


def calibrate(model: Any, name: str, pixels: np.ndarray) -> np.ndarray:
    """The classifier's bias, which this picture decides; the model has it afterwards."""
    import torch

    bias = np.zeros(91, np.float32)
    fill(model, name, bias)
    bias -= inspect(model, pixels)["logits"].mean(axis=0)
    bias[0] += CASES[name].background
    model.roi_heads.box_predictor.cls_score.bias.data = torch.from_numpy(bias.copy())
    return bias


def inspect(model: Any, pixels: np.ndarray) -> dict[str, Any]:
    """What each part of the model says of a picture (3, H, W)."""
    import torch

    with torch.inference_mode():
        images, _ = model.transform([normal(pixels)])
        features = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, features)
        cells = model.roi_heads.box_roi_pool(features, proposals, images.image_sizes)
        logits, deltas = model.roi_heads.box_predictor(model.roi_heads.box_head(cells))
    return {
        "pyramid": [level.numpy() for level in features.values()],
        "proposals": proposals[0].numpy(),
        "logits": logits.numpy(),
        "deltas": deltas.numpy(),
        **detect(model, pixels),
    }


def detect(model: Any, pixels: np.ndarray) -> dict[str, Any]:
    """Detections in pixels of the picture (3, H, W), and the probabilities of their masks before they are pasted."""
    import torch

    kept: list[Any] = []
    handle = model.roi_heads.mask_predictor.register_forward_hook(lambda _, inputs, output: kept.append(output))
    with torch.inference_mode():
        found = model([normal(pixels)])[0]
    handle.remove()
    number = torch.arange(len(found["labels"]))
    return {
        **{key: found[key].numpy() for key in ("boxes", "scores", "labels")},
        "probabilities": kept[0].sigmoid()[number, found["labels"]].numpy(),
        "pasted": (found["masks"][:, 0] >= 0.5).numpy(),
    }


def normal(pixels: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(pixels).float() / 255


def pack(found: dict[str, Any]) -> dict[str, np.ndarray]:
    """What is stored of it."""
    from pycocotools.mask import encode

    chosen = np.linspace(0, len(found["proposals"]) - 1, HEADS).round().astype(np.int32)
    lengths = encode(np.asfortranarray(found["pasted"].transpose(1, 2, 0), np.uint8))
    return {
        **{f"pyramid.{i}": level.flatten()[:: step(level.size)] for i, level in enumerate(found["pyramid"])},
        "proposals": found["proposals"],
        "chosen": chosen,
        "logits": found["logits"][chosen],
        "deltas": found["deltas"][chosen],
        "boxes": found["boxes"],
        "scores": found["scores"],
        "labels": found["labels"].astype(np.int16),
        "probabilities": to_uint16(found["probabilities"][:MASKS]),
        "pasted": np.frombuffer(b"\n".join(one["counts"] for one in lengths), np.uint8),
    }


def is_stable(model: Any, pixels: np.ndarray, found: dict[str, Any], seeds: tuple[int, ...]) -> bool:
    """Whether weights a millionth off, and thresholds a little off, find the same: rounding is no more than that."""
    import torch

    heads = model.roi_heads
    for name, value in (("score_thresh", heads.score_thresh), ("nms_thresh", heads.nms_thresh)):
        for change in (-2e-4, 2e-4):
            setattr(heads, name, value + change)
            other = detect(model, pixels)
            setattr(heads, name, value)
            if not np.array_equal(other["labels"], found["labels"]):
                print(f"  {name} {value + change:.4f} finds {len(other['labels'])}")
                return False
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for seed in seeds:
        torch.manual_seed(seed)
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 1e-6 * torch.randn_like(tensor))
        other = detect(model, pixels)
        model.load_state_dict(kept)
        if not np.array_equal(other["labels"], found["labels"]):
            print(f"  weights a millionth off find {len(other['labels'])}")
            return False
        far = {key: np.abs(other[key] - found[key]).max(initial=0) for key in ("boxes", "scores", "probabilities")}
        edge, near = edges(found["boxes"]), edges(other["boxes"])
        loose = (np.abs(edge - edge.round()) < 1e-3) & (edge != near)
        print("  weights a millionth off:", {key: f"{value:.1e}" for key, value in far.items()}, loose.sum(), "loose")
        if far["boxes"] > 0.01 or far["scores"] > 5e-5 or loose.any():
            return False
    return True


def edges(boxes: np.ndarray) -> np.ndarray:
    """What torchvision cuts to whole pixels before it pastes: there the fourth digit can move a mask by a pixel."""
    import torch
    from torchvision.models.detection.roi_heads import expand_boxes

    return expand_boxes(torch.from_numpy(boxes), 30 / 28).numpy()


def photos(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and RGB pixels of the photos of a folder."""
    for path in sorted(folder.glob("*.jpg")):
        yield path.name, photo(path)


def photo(path: Path) -> np.ndarray:
    """RGB pixels (3, H, W)."""
    from PIL import Image

    with Image.open(path) as image:
        return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def mark(pixels: np.ndarray) -> str:
    """Tells whether another decoder made the same pixels."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


def of_photos(model: Any, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Detections of the first photos that are stable, one after the other, and the marks of their pixels."""
    parts: dict[str, list[np.ndarray]] = {}
    marks: dict[str, str] = {}
    for name, pixels in photos(folder):
        found = detect(model, pixels)
        print(f"  {name} {pixels.shape[1:]}: {len(found['scores'])} detections", flush=True)
        if not FEWEST <= len(found["scores"]) <= MOST or not is_stable(model, pixels, found, seeds=(0,)):
            print("  left out")
            continue
        marks[name] = mark(pixels)
        for key, value in {
            "count": np.array([len(found["scores"])], np.int16),
            "boxes": found["boxes"],
            "scores": found["scores"],
            "labels": found["labels"].astype(np.int16),
            "areas": found["pasted"].sum(axis=(1, 2)).astype(np.int32),
            "probabilities": to_uint16(found["probabilities"][:PHOTO_MASKS]),
        }.items():
            parts.setdefault(f"photos.{key}", []).append(value)
        if len(marks) == NUM_PHOTOS:
            break
    return {key: np.concatenate(value) for key, value in parts.items()}, {"photos": json.dumps(marks)}


TRAINING_HEIGHT, TRAINING_WIDTH = 90, 120
LABELS = tuple(index + 1 for index in COCO_INDICES)
"""Of the polygons, 1..90."""
ALL = 10**6
"""More than there are: every anchor and every proposal enters the losses."""
POSITIVE_IOU = 0.3
"""Of proposals: random ones that overlap an object by half are few."""
WATCHED = {
    "v1": (
        "backbone.body.layer2.0.conv1.weight",
        "backbone.body.layer2.0.downsample.0.weight",
        "backbone.body.layer4.2.conv3.weight",
        "backbone.fpn.inner_blocks.0.0.weight",
        "backbone.fpn.inner_blocks.3.0.bias",
        "backbone.fpn.layer_blocks.1.0.weight",
        "rpn.head.conv.0.0.weight",
        "rpn.head.cls_logits.weight",
        "rpn.head.bbox_pred.bias",
        "roi_heads.box_head.fc6.weight",
        "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.box_predictor.bbox_pred.weight",
        "roi_heads.mask_head.0.0.weight",
        "roi_heads.mask_predictor.conv5_mask.weight",
        "roi_heads.mask_predictor.mask_fcn_logits.bias",
    ),
    "v2": (
        "backbone.body.layer2.0.conv1.weight",
        "backbone.body.layer3.0.downsample.1.weight",
        "backbone.body.layer4.2.bn3.bias",
        "backbone.fpn.inner_blocks.3.0.weight",
        "backbone.fpn.layer_blocks.1.1.weight",
        "rpn.head.conv.1.0.weight",
        "rpn.head.cls_logits.weight",
        "roi_heads.box_head.0.0.weight",
        "roi_heads.box_head.3.1.bias",
        "roi_heads.box_head.5.weight",
        "roi_heads.box_predictor.bbox_pred.weight",
        "roi_heads.mask_head.0.0.weight",
        "roi_heads.mask_head.3.1.weight",
        "roi_heads.mask_predictor.conv5_mask.bias",
        "roi_heads.mask_predictor.mask_fcn_logits.weight",
    ),
}
"""Parameters whose gradients are stored."""


TRAINED = {"v1": ("v1", False), "v2": ("v2", False), "live": ("v2", True)}
"""Name of a training step -> its model, and whether its norms are live or as in prediction."""


def learn(name: str, live: bool) -> dict[str, np.ndarray]:
    """Losses and gradients of one picture in float64, with every anchor and every proposal in the losses.

    live   whether norms are those of training, or as in prediction
    Boxes are rounded to float32 and mask targets to 1/255, as they are stored.
    """
    import torch
    from pycocotools.mask import decode, frPyObjects
    from torchvision.models.detection import roi_heads

    model = build(
        name,
        TRAINING_HEIGHT,
        published=False,
        rpn_batch_size_per_image=ALL,
        rpn_positive_fraction=1.0,
        rpn_post_nms_top_n_train=CASES[name].proposals,
        box_batch_size_per_image=ALL,
        box_positive_fraction=1.0,
        box_fg_iou_thresh=POSITIVE_IOU,
        box_bg_iou_thresh=POSITIVE_IOU,
    )
    calibrate(model, name, picture(TRAINING_HEIGHT, TRAINING_WIDTH))
    bias = model.state_dict()[f"{CLASSIFIER}.bias"].numpy()
    model.double().train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train(live)
    corners = [np.array(polygon, np.float32).reshape(-1, 2) for polygon in POLYGONS]
    masks = [decode(frPyObjects([list(p)], TRAINING_HEIGHT, TRAINING_WIDTH))[..., 0] for p in POLYGONS]
    target = {
        "boxes": torch.tensor([[*ring.min(axis=0), *ring.max(axis=0)] for ring in corners], dtype=torch.float64),
        "labels": torch.tensor(LABELS),
        "masks": torch.from_numpy(np.stack(masks)),
    }
    seen: dict[str, np.ndarray] = {}
    project, choose = roi_heads.project_masks_on_boxes, model.rpn.filter_proposals

    def project_rounded(gt_masks: Any, boxes: Any, matched: Any, size: int) -> Any:
        levels = (project(gt_masks, boxes, matched, size) * 255).round()
        seen["mask_boxes"], seen["mask_targets"] = boxes.float().numpy(), levels.to(torch.uint8).numpy()
        seen["mask_objects"] = matched.to(torch.int16).numpy()
        return levels / 255

    def choose_rounded(*given: Any) -> Any:
        boxes, scores = choose(*given)
        seen["proposals"] = boxes[0].detach().float().numpy()
        return [boxes[0].float().double()], scores

    roi_heads.project_masks_on_boxes, model.rpn.filter_proposals = project_rounded, choose_rounded
    try:
        pixels = torch.from_numpy(picture(TRAINING_HEIGHT, TRAINING_WIDTH)).double() / 255
        losses = model([pixels], [target])
    finally:
        roi_heads.project_masks_on_boxes = project
    sum(losses.values()).backward()
    print({key: f"{value.item():.5f}" for key, value in losses.items()}, len(seen["mask_boxes"]), "masks")
    stored = {f"loss.{key}": np.array([value.item()]) for key, value in losses.items()}
    parameters = dict(model.named_parameters())
    for key in WATCHED[name]:
        gradient = parameters[key].grad.numpy().flatten()
        stored[f"gradient.{key}"] = gradient[entries(gradient.size)].astype(np.float32)
        stored[f"largest.{key}"] = np.array([np.abs(gradient).max()], np.float32)
    return {"bias": bias, **stored, **seen}


def versions() -> dict[str, str]:
    import PIL
    import torch
    import torchvision

    return {module.__name__: module.__version__ for module in (torchvision, torch, np, PIL)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path, help="folder of JPEG files, of which the first stable ones are taken")
    parser.add_argument("--only", choices=[*CASES, "training"])
    arguments = parser.parse_args()
    for name in CASES:
        if arguments.only not in (None, name):
            continue
        print(name)
        model, synthetic = build(name, HEIGHT), picture(HEIGHT, WIDTH)
        bias = calibrate(model, name, synthetic)
        found = inspect(model, synthetic)
        print(f"  {len(found['scores'])} detections of {len(np.unique(found['labels']))} classes")
        if not is_stable(model, synthetic, found, seeds=(0, 1, 2)):
            raise SystemExit(f"{name}: what is found hangs by the last digits; give it another seed or background")
        model.transform.min_size, model.roi_heads.score_thresh = (PHOTO_SIDE,), CASES[name].photo_score
        tensors, marks = of_photos(model, arguments.photos)
        told = {**versions(), **marks}
        write(STORED / f"torchvision_{name}.safetensors", {"bias": bias, **pack(found), **tensors}, told)
    if arguments.only in (None, "training"):
        learnt = {f"{name}.{key}": value for name, how in TRAINED.items() for key, value in learn(*how).items()}
        write(STORED / "torchvision_training.safetensors", learnt, versions())


if __name__ == "__main__":
    main()
