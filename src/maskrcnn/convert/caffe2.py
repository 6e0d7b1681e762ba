"""ImageNet backbones that Detectron and Detectron2 start from, with the tensor names of Caffe2 or Detectron2.

MSRA's R-50 and R-101, and the two with group norm, were trained on BGR pixels minus a mean; the deviation is in the
stem's weights. Ours are converted to RGB and multiplied by ImageNet's deviation, so that the pixels of every recipe,
which are divided by it, give the same result:

    w * (x - mean)  =  (w * std) * ((x - mean) / std)

X-101-32x8d was trained on divided BGR pixels, `torchvision/R-50.pkl`, which has Detectron2's names, on RGB. MSRA's
have the stride of a bottleneck in the 1 x 1 convolution (`model.backbone.stride_in_1x1`), the others in the 3 x 3.

Where a norm has only a scale and a shift, its statistics were folded into them: mean 0 and variance 1 - eps then change
nothing. (Detectron2 loads a variance of 1 for missing statistics, which is 5e-6 off.)
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from maskrcnn.config import Data
from maskrcnn.models.layers import FrozenBatchNorm
from maskrcnn.sentences import some_of

CAFFE2 = (
    (r"^(res_)?conv1_", "stem."),
    (r"^(res\d)_(\d+)_branch1_", r"\1.\2.shortcut."),
    (r"^(res\d)_(\d+)_branch2([abc])_", lambda m: f"{m[1]}.{m[2]}.conv{'abc'.index(m[3]) + 1}."),
    (r"\.[bg]n_", ".norm."),
    (r"\.(s|gamma|w)$", ".weight"),
    (r"\.(b|beta)$", ".bias"),
    (r"\.rm$", ".running_mean"),
    (r"\.riv$", ".running_var"),
)
DETECTRON2 = ((r"^stem\.conv1\.", "stem."),)
IDLE = r"^(stem\.)?(fc\d*|pred|linear)[._]|^conv1_b$|num_batches_tracked$|_momentum$"
"""Pattern of tensors that are left out: classifier, counters, and the bias of a stem whose norm has one."""
STEM = "stem.weight"
MARKS = ("conv1_w", "stem.conv1.weight")
"""Stem weights in Caffe2's and Detectron2's names."""


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert to the tensors of `maskrcnn.models.resnet.ResNet`, for pixels as our recipes have them.

    state   tensors of Caffe2 (`conv1_w`, `res2_0_branch2a_bn_s`) or Detectron2 (`stem.conv1.weight`)
    Raises ValueError for other names.
    """
    if not any(name in state for name in MARKS):
        names = some_of(state, 3)
        raise ValueError(f"expected a ResNet of Caffe2 (conv1_w) or Detectron2 (stem.conv1.weight), received {names}")
    is_caffe2 = "conv1_w" in state
    renamed = {}
    for name, tensor in state.items():
        if re.search(IDLE, name):
            continue
        for pattern, replacement in CAFFE2 if is_caffe2 else DETECTRON2:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    if is_caffe2:
        renamed[STEM] = _stem(renamed[STEM], is_divided=_has_groups(renamed))
        if not any("_gn_" in name for name in state):
            _unfold(renamed)
    return renamed


def is_msra(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a file is one of MSRA's: Caffe2's names, neither groups nor group norm."""
    middle = state.get("res2_0_branch2b_w")
    return middle is not None and middle.shape[0] == middle.shape[1] and not any("_gn_" in name for name in state)


def _stem(weight: Tensor, is_divided: bool) -> Tensor:
    """Convert a stem for divided RGB pixels."""
    return weight.flip(1) * (1.0 if is_divided else torch.tensor(Data().std)[:, None, None])


def _has_groups(state: Mapping[str, Tensor]) -> bool:
    """Tell whether this is a ResNeXt."""
    weight = state.get("res2.0.conv2.weight")  # missing in an incomplete file, which fits no network
    return weight is not None and weight.shape[0] != weight.shape[1]


def _unfold(state: dict[str, Tensor]) -> None:
    """Add statistics that change nothing to norms without any."""
    for name, scale in [entry for entry in state.items() if entry[0].endswith(".norm.weight")]:
        state.setdefault(name.replace(".norm.weight", ".norm.running_mean"), torch.zeros_like(scale))
        variance = torch.full_like(scale, 1 - FrozenBatchNorm.eps)
        state.setdefault(name.replace(".norm.weight", ".norm.running_var"), variance)
