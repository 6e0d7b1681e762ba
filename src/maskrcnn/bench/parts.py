"""A prediction and an update of the weights in parts, as they are timed one by one."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from maskrcnn.bench.timing import OnStage, Work
from maskrcnn.models.mask_rcnn import MaskRCNN
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.precision import Precision
from maskrcnn.structures import ImageBatch
from maskrcnn.train.step import learnt

TRUNK, PROPOSE, DETECT, SEGMENT = "backbone and FPN", "RPN", "box head", "mask head"
FORWARD, BACKWARD, REDUCE, MOVE = "forward and losses", "backward", "reduction", "clip and optimizer"


def stages(model: MaskRCNN, images: ImageBatch) -> dict[str, Work]:
    """Each stage of a prediction, on what the one before gave."""

    def trunk() -> list[Tensor]:
        return model.neck(model.backbone(images.pixels))

    pyramid = trunk()
    proposals = model.rpn.propose(pyramid, images.sizes)
    found = model.box_head.detect(pyramid, proposals, images.sizes)
    return {
        TRUNK: trunk,
        PROPOSE: lambda: model.rpn.propose(pyramid, images.sizes),
        DETECT: lambda: model.box_head.detect(pyramid, proposals, images.sizes),
        SEGMENT: lambda: model.mask_head.segment(pyramid, found),
    }


def eager_update(
    losses: Callable[[], Mapping[str, Tensor]],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    world: World,
    precision: Precision,
    clip_norm: float,
    on_stage: OnStage = lambda _: None,
) -> Mapping[str, Tensor]:
    """One update line by line, of any network, whose stages `on_stage` is told."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer.zero_grad(set_to_none=True)
    with precision.autocast():
        found = losses()
        total = learnt(found)
    on_stage(FORWARD)
    total.backward()
    on_stage(BACKWARD)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    world.all_reduce_mean(gradients)
    on_stage(REDUCE)
    norm = get_total_norm(gradients, foreach=True)
    if clip_norm:
        clip_grads_with_norm_(parameters, clip_norm, norm, foreach=True)
    optimizer.step()
    on_stage(MOVE)
    return found
