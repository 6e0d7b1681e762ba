"""Makes `stored/mindspore_seed.safetensors`: what the MindSpore network says of a known picture with known weights.

    python tests/parity/mindspore_reference.py MODELS [--commit HASH]

MODELS is a checkout of https://github.com/mindspore-lab/models. The environment needs mindspore 2.10, numpy<2,
mindcv, PyYAML and safetensors; it needs neither torch nor this project. Takes two minutes on one core.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from weights import arrays, picture  # noqa: E402

SEED = 5
HEIGHT, WIDTH = 160, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STRIDES = {
    "pyramid.0": 61,
    "pyramid.1": 31,
    "pyramid.2": 11,
    "pyramid.3": 5,
    "pyramid.4": 3,
    "objectness": 1,
    "deltas": 5,
    "classes": 1,
    "boxes": 1,
    "masks": 131,
    "proposals": 7,
    "refined": 3,
}
"""One number of so many is stored of each flattened output: prime steps visit all channels, rows and columns."""
STRETCH = 25.0
"""The box head's deltas are decoded this much larger than they are, so that the largest meet their limit."""
BOXES = (
    # (x1, y1, x2, y2): small ones on level 0, then sides of at least 112, 224 and 448 pixels on levels 1, 2 and 3;
    # some reach beyond the picture, as proposals may that were not clipped.
    (10.0, 20.0, 50.0, 44.0),
    (0.0, 0.0, 30.5, 60.25),
    (100.3, 7.9, 101.1, 8.4),
    (150.0, 30.0, 223.0, 159.0),
    (3.2, 100.7, 111.9, 158.3),
    (200.5, 140.25, 224.0, 160.0),
    (64.0, 32.0, 96.0, 64.0),
    (120.0, 60.0, 120.0, 60.0),
    (0.0, 0.0, 224.0, 160.0),
    (5.5, 3.25, 140.75, 155.5),
    (40.0, 10.0, 220.0, 120.0),
    (60.0, 1.0, 200.0, 150.0),
    (90.1, 0.0, 224.0, 133.3),
    (-20.0, -15.0, 230.0, 190.0),
    (-100.0, 20.0, 223.0, 240.0),
    (0.0, 0.0, 300.0, 200.0),
    (30.0, -60.0, 260.0, 210.0),
    (-150.0, -200.0, 330.0, 300.0),
    (0.0, 0.0, 500.0, 480.0),
    (-300.0, -310.0, 240.0, 170.0),
)


def normalised() -> np.ndarray:
    """The picture as the network is fed it, (1, 3, H, W)."""
    scaled = picture(HEIGHT, WIDTH).astype(np.float32) / np.float32(255)
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (MEAN, STD))
    return ((scaled - mean) / std)[None]


def sampled(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(array.reshape(-1)[:: STRIDES[name]]) for name, array in outputs.items()}


def network(folder: Path, make=lambda shapes: arrays(shapes, SEED)):
    """The full Mask R-CNN of `config/maskrcnn/mask_rcnn_resnet50_fpn_1x.yml`, with weights made for its shapes."""
    import mindspore as ms

    sys.path.insert(0, str(folder))
    os.chdir(folder)
    from src.mask_rcnn import MaskRCNN
    from src.utils.config import Config, load_config

    ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
    settings = Config(load_config("config/maskrcnn/mask_rcnn_resnet50_fpn_1x.yml")[0])
    settings.backbone.pretrained = False
    net = MaskRCNN(settings)
    shapes = {parameter.name: tuple(parameter.shape) for parameter in net.get_parameters()}
    for parameter, array in zip(net.get_parameters(), make(shapes).values(), strict=True):
        parameter.set_data(ms.Tensor(array))
    return net.set_train(False)


def answers(net) -> dict[str, np.ndarray]:
    """What the network computes before it clips and suppresses boxes."""
    import mindspore as ms
    from src.utils.box_utils import delta2bbox

    pyramid = net.backbone(ms.Tensor(normalised()))
    logits, deltas = net.rpn_head.rpn_feat(pyramid)
    boxes = ms.Tensor(np.array(BOXES, np.float32)[None])
    every = ms.Tensor(np.ones((1, len(BOXES)), bool))
    hidden = net.bbox_head.head(net.bbox_head.roi_extractor(pyramid, boxes, every))
    cells = net.mask_head.roi_extractor(pyramid, boxes, every)
    masks = net.mask_head.mask_fcn_logits(net.mask_head.head(cells.reshape(len(BOXES), *cells.shape[2:])))
    anchors = np.concatenate([x.asnumpy() for x in net.rpn_head.anchor_generator([x.shape[2:] for x in pyramid])])
    by_cell = [[x.asnumpy().transpose(0, 2, 3, 1).reshape(-1) for x in maps] for maps in (logits, deltas)]
    objectness, deltas = (np.concatenate(parts) for parts in by_cell)
    refinements = net.bbox_head.bbox_delta(hidden)
    around = ms.Tensor(np.repeat(np.array(BOXES, np.float32), refinements.shape[1] // 4, 0))
    return {
        **{f"pyramid.{i}": level.asnumpy() for i, level in enumerate(pyramid)},
        "objectness": objectness,
        "deltas": deltas,
        "classes": net.bbox_head.bbox_cls(hidden).asnumpy(),
        "boxes": refinements.asnumpy(),
        "masks": masks.asnumpy(),
        "proposals": delta2bbox(ms.Tensor(deltas.reshape(-1, 4)), ms.Tensor(anchors), weights=(1.0,) * 4).asnumpy(),
        "refined": delta2bbox(refinements.reshape(-1, 4) * STRETCH, around).asnumpy(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--commit", help="of the checkout, where git cannot tell")
    parser.add_argument("--all", type=Path, help="also write every number, here")
    options = parser.parse_args()
    git = ["git", "-C", str(options.models), "rev-parse", "HEAD"]
    commit = options.commit or subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    import mindspore
    from safetensors.numpy import save_file

    target, every = HERE.resolve() / "stored" / "mindspore_seed.safetensors", options.all and options.all.resolve()
    outputs = answers(network(options.models.resolve() / "official" / "cv" / "RCNN"))
    source = {"source": "mindspore-lab/models official/cv/RCNN", "commit": commit, "mindspore": mindspore.__version__}
    target.parent.mkdir(exist_ok=True)
    save_file(sampled(outputs), target, metadata=source)
    if every:
        save_file({name: np.ascontiguousarray(array) for name, array in outputs.items()}, every)
    for name, array in outputs.items():
        print(f"{name:12} {array.shape!s:20} std {array.std():.3f}, largest {np.abs(array).max():.3f}")
    print(f"wrote {target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
