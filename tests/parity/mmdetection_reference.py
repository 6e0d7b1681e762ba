"""Makes `stored/mmdetection_*.safetensors`: what MMDetection says of a known picture with known weights.

    python tests/parity/mmdetection_reference.py [--only NAME] [--names]

The environment needs mmdet 3.3.0, mmengine, mmcv-lite 2.1.0, opencv-python-headless, torch, torchvision, numpy,
pycocotools, safetensors and what mmdet imports (scipy, shapely, terminaltables, matplotlib, tqdm); it needs no
compiler. mmcv's own kernels are NOT run: mmcv-lite has none, and torchvision's RoIAlign (`aligned=True`, with as many
samples as a bin has cells) and NMS take their place. All else, from pixels to pasted masks, is MMDetection's own code.
`--names` writes `tests/convert/mmdetection_names.txt` too.
"""

import argparse
import sys
import types
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
STORED = HERE / "stored"
NAMES = HERE.parent / "convert" / "mmdetection_names.txt"

MODELS = {
    "r50": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco",
    "r50_caffe": "mask_rcnn/mask-rcnn_r50-caffe_fpn_1x_coco",
    "r101": "mask_rcnn/mask-rcnn_r101_fpn_2x_coco",
    "r18": "mask_rcnn/mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco",
    "x101-32x4d": "mask_rcnn/mask-rcnn_x101-32x4d_fpn_1x_coco",
    "x101-32x8d": "mask_rcnn/mask-rcnn_x101-32x8d_fpn_1x_coco",
    "x101-64x4d": "mask_rcnn/mask-rcnn_x101-64x4d_fpn_1x_coco",
    "gn": "gn/mask-rcnn_r50_fpn_gn-all_2x_coco",
    "syncbn": "simple_copy_paste/mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-90k_coco",
}
"""Those whose names are listed. `r50_caffe` has the names of `r50`."""
HEIGHT, WIDTH = 200, 280
HEADS = 40
"""Proposals whose logits and deltas are stored, spread over all."""
MASKS = 20
SAMPLES = 2000
"""Values stored of each level of the pyramid."""


class Case(NamedTuple):
    """A model's random weights, and what makes them find much without leaving it to chance."""

    seed: int
    pixels: float
    """Root mean square of what its stem is fed."""
    background: float
    """What the background's logit has above the mean of the others."""
    proposals: int = 1000
    contrast: float = 1.0
    """Factor of the classifier's weights."""


CASES = {
    "r50": Case(8, 1.0, 13.3),
    "r50_caffe": Case(11, 60.0, 13.45),
    "gn": Case(5, 60.0, 9.3, 100, 4.0),
    "syncbn": Case(5, 1.0, 7.95, 100),
}
OBJECTNESS = ("rpn_head.rpn_cls.weight", "rpn_head.rpn_cls.bias")
CLASSIFIER = "roi_head.bbox_head.fc_cls"


def weights(name: str, shapes: Mapping[str, tuple[int, ...]], bias: np.ndarray) -> dict[str, np.ndarray]:
    """Under MMDetection's names.

    bias   of the classifier: brings every class's mean logit to zero, since random features have a mean that would
           find the same few classes everywhere
    """
    try:
        from .weights import arrays
    except ImportError:  # run as a script
        from weights import arrays
    case = CASES[name]
    found = arrays(shapes, case.seed, case.pixels)
    for tensor in OBJECTNESS:  # MMDetection ranks by probability, and 1 - 1e-8 is 1
        found[tensor] = found[tensor] * np.float32(0.125)
    if name.endswith("caffe"):  # such backbones come with a scale and a shift alone
        for tensor in [tensor for tensor in found if tensor.endswith("running_mean")]:
            stem = tensor.removesuffix("running_mean")
            found[stem + "weight"] = found[stem + "weight"] / np.sqrt(found[stem + "running_var"])
            found[tensor], found[stem + "running_var"] = np.zeros_like(found[tensor]), np.ones_like(found[tensor])
    found[f"{CLASSIFIER}.weight"] = found[f"{CLASSIFIER}.weight"] * np.float32(case.contrast)
    return {**found, f"{CLASSIFIER}.bias": bias}


def listed(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model, from the list; `{a,b}` stands for each of them."""
    sections = {section.split("]")[0]: section for section in NAMES.read_text(encoding="utf-8").split("[")[1:]}
    found = {}
    for line in sections[name.removesuffix("_caffe")].splitlines()[1:]:
        pattern, *shape = line.split()
        parts = [part.split(",") for part in pattern.replace("}", "{").split("{")]
        found.update({"".join(choice): tuple(map(int, shape)) for choice in product(*parts)})
    return found


def write_names(shapes: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
    lines = []
    for name, own in shapes.items():
        lines.append(f"[{name}] {MODELS[name]}")
        lines += [" ".join([pattern, *map(str, shape)]) for pattern, shape in _compact(own)]
    NAMES.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _compact(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names of one shape that differ in one part, as one; the last part first."""
    groups = [(tuple((part,) for part in name.split(".")), shape) for name, shape in shapes.items()]
    for spot in (-1, 0, 1, 2, 3):
        merged: dict[Any, tuple[str, ...]] = {}
        for parts, shape in groups:
            place = spot % len(parts)
            key = parts[:place], parts[place + 1 :], shape
            merged[key] = (*merged.get(key, ()), *parts[place])
        groups = [((*before, part, *after), shape) for (before, after, shape), part in merged.items()]
    for parts, shape in groups:
        yield ".".join(part[0] if len(part) == 1 else f"{{{','.join(part)}}}" for part in parts), shape


def prepare() -> None:
    """Make `import mmdet` work with mmcv-lite."""
    import mmcv
    import torch
    import torchvision

    class RoIAlign(torch.nn.Module):
        def __init__(self, output_size: Any, spatial_scale: float, sampling_ratio: int, aligned: bool = True) -> None:
            super().__init__()
            self.output_size = output_size if isinstance(output_size, tuple) else (output_size, output_size)
            self.spatial_scale, self.samples, self.aligned = spatial_scale, sampling_ratio or -1, aligned

        def forward(self, level: Any, rois: Any) -> Any:
            size, scale = self.output_size, self.spatial_scale
            return torchvision.ops.roi_align(level, rois, size, scale, self.samples, self.aligned)

    def batched_nms(boxes: Any, scores: Any, groups: Any, settings: Any, class_agnostic: bool = False) -> Any:
        assert (settings["type"], class_agnostic) == ("nms", False)
        kept = torchvision.ops.batched_nms(boxes, scores, groups, settings["iou_threshold"])
        return torch.cat([boxes[kept], scores[kept, None]], dim=1), kept

    def absent(name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {})  # imported, never called

    parts = ("nms", "roi_align", "carafe", "merge_cells", "modulated_deform_conv", "multi_scale_deform_attn")
    for name in ("", *(f".{part}" for part in parts)):
        module = types.ModuleType(f"mmcv.ops{name}")
        module.__path__ = []
        module.__getattr__ = absent
        module.RoIAlign, module.batched_nms = RoIAlign, batched_nms
        sys.modules[module.__name__] = module
    mmcv.ops = sys.modules["mmcv.ops"]

    from mmdet.utils import register_all_modules
    from mmengine.registry import MODELS as REGISTRY

    REGISTRY.register_module("MMSyncBN", module=torch.nn.BatchNorm2d)
    register_all_modules(init_default_scope=True)


def build(config: str) -> Any:
    """The model of a configuration, with random weights."""
    import mmdet
    from mmdet.registry import MODELS as REGISTRY
    from mmengine.config import Config

    settings = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / f"{config}.py").model
    settings.backbone.init_cfg = None
    return REGISTRY.build(settings).eval()


def fill(model: Any, name: str, picture: np.ndarray) -> np.ndarray:
    """Give the model its weights; the classifier's bias, which this picture decides, is returned."""
    import torch

    shapes = {tensor: tuple(value.shape) for tensor, value in model.state_dict().items()}
    bias = np.zeros(shapes[f"{CLASSIFIER}.bias"], np.float32)
    model.load_state_dict({tensor: torch.from_numpy(x) for tensor, x in weights(name, shapes, bias).items()})
    model.rpn_head.test_cfg.max_per_img = CASES[name].proposals
    bias -= inspect(model, picture)["logits"].mean(axis=0)
    bias[-1] += CASES[name].background
    model.roi_head.bbox_head.fc_cls.bias.data = torch.from_numpy(bias)
    return bias


def inspect(model: Any, picture: np.ndarray) -> dict[str, Any]:
    """What each part of the model says of an RGB picture (3, H, W) that has the network's size already."""
    import torch
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import bbox2roi

    size = picture.shape[1:]
    about = DetDataSample(metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)})
    fed = {"inputs": [torch.from_numpy(picture[::-1].copy())], "data_samples": [about]}  # files are read blue first
    with torch.no_grad():
        fed = model.data_preprocessor(fed, False)
        pyramid = model.extract_feat(fed["inputs"])
        proposals = model.rpn_head.predict(pyramid, fed["data_samples"], rescale=False)
        heads = model.roi_head._bbox_forward(pyramid, bbox2roi([proposals[0].bboxes]))
        found = model.roi_head.predict(pyramid, proposals, fed["data_samples"], rescale=True)[0]
        logits = model.roi_head._mask_forward(pyramid, bbox2roi([found.bboxes]))["mask_preds"]
        own = logits[torch.arange(len(logits)), found.labels].sigmoid()
    return {
        "pyramid": [level.numpy() for level in pyramid],
        "proposals": proposals[0].bboxes.numpy(),
        "objectness": proposals[0].scores.numpy(),
        "logits": heads["cls_score"].numpy(),
        "deltas": heads["bbox_pred"].numpy(),
        "boxes": found.bboxes.numpy(),
        "scores": found.scores.numpy(),
        "classes": found.labels.numpy(),
        "probabilities": own.numpy(),
        "pasted": found.masks.numpy(),
    }


def pack(found: dict[str, Any]) -> dict[str, np.ndarray]:
    """What is stored of it."""
    chosen = np.linspace(0, len(found["proposals"]) - 1, HEADS).round().astype(np.int32)
    return {
        **{f"pyramid.{i}": level.flatten()[:: step(level.size)] for i, level in enumerate(found["pyramid"])},
        "proposals": found["proposals"],
        "objectness": found["objectness"],
        "chosen": chosen,
        "logits": found["logits"][chosen],
        "deltas": found["deltas"][chosen][:, ::3],
        "boxes": found["boxes"],
        "scores": found["scores"],
        "classes": found["classes"].astype(np.int16),
        "probabilities": (found["probabilities"][:MASKS] * 65535).round().astype(np.uint16),
        "areas": found["pasted"].sum(axis=(1, 2)).astype(np.int32),
    }


def step(size: int) -> int:
    """Of a level's flattened values every so manieth is stored; an odd number visits all channels and columns."""
    return max(1, size // SAMPLES) | 1


def check(model: Any, picture: np.ndarray, found: dict[str, Any]) -> None:
    """Refuse what another machine's rounding could turn over: weights a millionth off must find the same."""
    import torch

    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for seed in range(4):
        torch.manual_seed(seed)
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 1e-6 * torch.randn_like(tensor))
        other = inspect(model, picture)
        model.load_state_dict(kept)
        assert np.array_equal(other["classes"], found["classes"]), "another seed: detections change with the rounding"
        far = {key: np.abs(other[key] - found[key]).max() for key in ("boxes", "scores", "probabilities")}
        print("  weights a millionth off:", {key: f"{value:.1e}" for key, value in far.items()})
        assert far["boxes"] < 0.002
        assert far["scores"] < 5e-5


def versions() -> dict[str, str]:
    import cv2
    import mmcv
    import mmdet
    import mmengine
    import torch
    import torchvision

    modules = (mmdet, mmengine, mmcv, torch, torchvision, np, cv2)
    kernels = "RoIAlign and NMS are torchvision's; mmcv's kernels were not run"
    return {**{module.__name__: module.__version__ for module in modules}, "kernels": kernels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--names", action="store_true", help="write the list of names too")
    arguments = parser.parse_args()
    sys.path.insert(0, str(HERE))
    from safetensors.numpy import save_file
    from weights import picture

    prepare()
    if arguments.names:
        models = {name: build(config) for name, config in MODELS.items() if not name.endswith("caffe")}
        write_names({n: {t: tuple(x.shape) for t, x in m.state_dict().items()} for n, m in models.items()})
    synthetic = picture(HEIGHT, WIDTH)
    for name in CASES:
        if arguments.only not in (None, name):
            continue
        model = build(MODELS[name])
        bias = fill(model, name, synthetic)
        found = inspect(model, synthetic)
        print(name, len(found["scores"]), "detections")
        check(model, synthetic, found)
        path = STORED / f"mmdetection_{name}.safetensors"
        tensors = {key: np.ascontiguousarray(value) for key, value in {"bias": bias, **pack(found)}.items()}
        save_file(tensors, path, {**versions(), "config": MODELS[name]})
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
