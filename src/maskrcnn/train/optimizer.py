"""The optimizer, its state under the names of the parameters, and the moving average of the weights."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.models.mask_rcnn import MaskRCNN

NORMS = (nn.GroupNorm, nn.BatchNorm2d)
RATE_SHARE = "rate_share"
"""Entry of an optimizer's group: its share of the learning rate."""
FUSED_ON = ("cpu", "cuda")
"""Devices for which torch itself brings both optimizers as one kernel; others take its default."""


def build_optimizer(
    model: nn.Module, settings: config.Optimizer, *, rate_on_device: bool = False
) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over the trainable parameters; the rate is set at each step.

    rate_on_device   as a tensor, which a recorded step reads anew at every replay
    """
    groups, rate = _groups(model, settings), settings.lr
    trainable = [p for group in groups for p in group["params"]]
    fused = True if all(p.device.type in FUSED_ON for p in trainable) else None
    if rate_on_device:
        for group in groups:
            group["lr"] = torch.tensor(rate, device=trainable[0].device)
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, fused=fused)
    capturable = rate_on_device and trainable[0].device.type == "cuda"
    if capturable:  # the first step with new shapes is not recorded, and torch would call that slow
        warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999), fused=fused, capturable=capturable)


def _groups(model: nn.Module, settings: config.Optimizer) -> list[dict[str, Any]]:
    """The trainable parameters by their weight decay and their share of the rate: weights and biases, then norms."""
    norms = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
    shares = _shares(model, settings.layer_decay)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = id(parameter) in norms, shares.get(id(parameter), 1.0)
            groups.setdefault(key, []).append(parameter)
    decays = {False: settings.weight_decay, True: settings.weight_decay_norm}
    return [
        {"params": groups[is_norm, share], "weight_decay": decays[is_norm], RATE_SHARE: share}
        for is_norm, share in sorted(groups)
    ]


def _shares(model: nn.Module, layer_decay: float) -> dict[int, float]:
    """Share of the rate of each parameter of the backbone, by its identity."""
    stages = model.backbone.stages() if isinstance(model, MaskRCNN) else ()
    return {
        id(parameter): layer_decay ** (len(stages) - number)
        for number, stage in enumerate(stages)
        for parameter in stage.parameters()
    }


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of the learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group[RATE_SHARE])
        else:
            group["lr"] = rate * group[RATE_SHARE]


def state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's tensors as `<parameter's name>/<what it is>`."""
    states = [(name, optimizer.state.get(parameter, {})) for name, parameter in model.named_parameters()]
    return {f"{name}/{key}": value for name, state in states for key, value in state.items() if value is not None}


def load_state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `state_tensors`: tensors take the device and memory format of their parameter.

    The count of steps stays on the CPU unless the optimizer is fused, as torch keeps it.
    """
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for path, tensor in tensors.items():
        name, key = path.rsplit("/", 1)
        parameter = parameters[name].detach()
        if key == "step":
            value = tensor.to(parameter.device if optimizer.defaults["fused"] else "cpu", copy=True)
        else:
            value = torch.empty_like(parameter).copy_(tensor)
        optimizer.state[parameters[name]][key] = value


def _statistics(model: nn.Module) -> list[Tensor]:
    """What batch norms count."""
    return [buffer for module in model.modules() if isinstance(module, nn.BatchNorm2d) for buffer in module.buffers()]


class Average:
    """A copy of a model whose weights follow the trained ones slowly (Polyak and Juditsky 1992).

    decay    share of the average that a step keeps
    warmup   shortens the average in the beginning, see `train.ema_warmup`
    """

    def __init__(self, model: nn.Module, decay: float, warmup: int = 9) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.warmup = decay, warmup
        self._names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights after `step` updates; the decay rises to its setting over the first steps.

        Statistics of live batch norms, which are averages already, are taken as they are.
        """
        decay = min(self.decay, (1 + step) / (1 + self.warmup + step))
        theirs = dict(model.named_parameters())
        torch._foreach_lerp_(list(self.tensors().values()), [theirs[n].detach() for n in self._names], 1 - decay)
        for ours, current in zip(_statistics(self.model), _statistics(model), strict=True):
            ours.copy_(current)

    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights under the names of the parameters."""
        ours = dict(self.model.named_parameters())
        return {name: ours[name].detach() for name in self._names}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take weights that `tensors` gave."""
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
