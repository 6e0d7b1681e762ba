"""The optimizer, its state under the names of the parameters, and the moving average of the weights."""

import copy
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maskrcnn import config

NORMS = (nn.GroupNorm, nn.BatchNorm2d)
FUSED_ON = ("cpu", "cuda")
"""Devices for which torch itself brings both optimizers as one kernel; others take its default."""


def build_optimizer(
    model: nn.Module, settings: config.Optimizer, *, rate_on_device: bool = False
) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over the trainable parameters; the rate is set at each step.

    rate_on_device   as a tensor, which a recorded step reads anew at every replay
    """
    norms = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    fused = True if all(p.device.type in FUSED_ON for p in trainable) else None
    decays = ((False, settings.weight_decay), (True, settings.weight_decay_norm))
    groups = [
        {"params": [p for p in trainable if (id(p) in norms) == is_norm], "weight_decay": decay}
        for is_norm, decay in decays
    ]
    groups = [group for group in groups if group["params"]]
    rate = torch.tensor(settings.lr, device=trainable[0].device) if rate_on_device else settings.lr
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, fused=fused)
    capturable = rate_on_device and trainable[0].device.type == "cuda"
    if capturable:  # the first step with new shapes is not recorded, and torch would call that slow
        warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999), fused=fused, capturable=capturable)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


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
    """A copy of a model whose weights follow the trained ones slowly (Polyak and Juditsky 1992)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self._names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights after `step` updates; the decay rises to its setting over the first steps.

        Statistics of live batch norms, which are averages already, are taken as they are.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
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
