"""MindSpore's Mask R-CNN: its tensor names, and the conventions of its evaluation.

Source: `official/cv/RCNN` of mindspore-lab/models. Evaluation feeds RGB (its training configuration BGR), and
prediction uses the numbers of proposals under `train_proposal`.
"""

from msgspec.structs import replace
from torch import Tensor

from maskrcnn.config import Data, Recipe
from maskrcnn.convert.classes import coco_classes
from maskrcnn.convert.framework import Described, Framework, Rule, State
from maskrcnn.convert.structure import structure_of
from maskrcnn.recipes.adopt import with_settings
from maskrcnn.recipes.mindspore_keys import CONVENTIONS

MASK_CONVS = 4
"""Number of convolutions in the mask head; `mask_head.head.upsample` numbers its deconvolution twice that."""
RULES: tuple[Rule, ...] = (
    (r"\.norm\.weight$", ".norm.gamma"),
    (r"\.norm\.bias$", ".norm.beta"),
    (r"\.norm\.running_mean$", ".norm.moving_mean"),
    (r"\.norm\.running_var$", ".norm.moving_variance"),
    (r"^backbone\.stem\.norm\.", "backbone.bottom_up.bn1."),
    (r"^backbone\.stem\.", "backbone.bottom_up.conv1."),
    (r"^backbone\.res(\d)\.", lambda m: f"backbone.bottom_up.layer{int(m[1]) - 1}."),
    (r"\.shortcut\.norm\.", ".down_sample.1."),
    (r"\.shortcut\.", ".down_sample.0."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"^neck\.lateral\.(\d)\.", r"backbone.lateral_convs.\1.conv.0."),
    (r"^neck\.output\.(\d)\.", r"backbone.fpn_convs.\1.conv.0."),
    (r"^rpn\.convs\.0\.", "rpn_head.rpn_feat.rpn_conv."),
    (r"^rpn\.objectness\.", "rpn_head.rpn_feat.rpn_rois_score."),
    (r"^rpn\.deltas\.", "rpn_head.rpn_feat.rpn_rois_delta."),
    (r"^box_head\.fcs\.(\d)\.", lambda m: f"bbox_head.head.fc{int(m[1]) + 6}."),
    (r"^box_head\.classes\.", "bbox_head.bbox_cls."),
    (r"^box_head\.deltas\.", "bbox_head.bbox_delta."),
    (r"^mask_head\.convs\.(\d)\.", lambda m: f"mask_head.head.upsample.{2 * int(m[1])}."),
    (r"^mask_head\.upsample\.", f"mask_head.head.upsample.{2 * MASK_CONVS}."),
    (r"^mask_head\.masks\.", "mask_head.mask_fcn_logits."),
)

IDLE = (
    r"^(moments|moment1|moment2|accum|stat)\.",
    r"^(global_step|momentum|weight_decay|beta[12]_power|epoch_num|step_num|loss_scale|scale_sense)$",
    r"^learning_rate(_group_\d+)?$",
    r"^(current_iterator_step|last_overflow_iterator_step)$",
)
"""Patterns of a training run's tensors beside the weights: optimizer state, rates and counters."""


def _describe(state: State, hint: str) -> Described:
    model, num_classes = structure_of(state, MINDSPORE.theirs, background_everywhere=False)
    model = replace(
        model,
        neck=replace(model.neck, upsample="bilinear"),
        rpn=replace(model.rpn, num_test_candidates=2000),
        mask_head=replace(model.mask_head, num_convs=MASK_CONVS),
    )
    names, ids = coco_classes(num_classes)
    data = Data(short_sides=(768,), max_side=1280)
    name = f"mindspore_{model.backbone.kind}"
    recipe = Recipe(name=name, data=data, model=model, classes=names, category_ids=ids)
    return Described(with_settings(recipe, CONVENTIONS, "of MindSpore"))


def _without_counts(state: State) -> dict[str, Tensor]:
    """Drop the batch counters, which MindSpore's batch norms do not have."""
    return {name: tensor for name, tensor in state.items() if not name.endswith(".num_batches_tracked")}


MINDSPORE = Framework(
    name="mindspore",
    rules=RULES,
    describe=_describe,
    mark=r"^rpn_head\.rpn_feat\.",
    idle="|".join(IDLE),
    finish=_without_counts,
)
