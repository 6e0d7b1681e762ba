"""Keys of the MindSpore system's recipes, each with what it is here, or why nothing is.

Source: what the code of `official/cv/RCNN` (mindspore-lab/models at 7c04d53 and f109833) does with each key.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Given = Mapping[str, Any]
"""All keys of a recipe of theirs, by dotted path."""
Read = Callable[[Any, Given], Mapping[str, Any]]
"""Function of their value and all their keys that returns ours; raises ValueError with what it expects."""

CONVENTIONS = {
    "data.fit": "box",
    "data.averaging": "area",
    "data.fixed_point": True,
    "data.padding": "black",
    "model.backbone.stem_pool": "end",
    "model.roi_align.half_pixel": False,
    "model.rpn.anchor_offset": 0.0,
    "model.rpn.max_log_scale": 4.0,
    "model.rpn.clip_to": "batch",
    "model.rpn.nms_across_levels": True,
    "model.box_head.max_log_scale": 4.0,
    "model.box_head.clip": "after_nms",
    "model.smooth_l1_beta": 1.0,
}
"""Settings that stand in that system's code rather than in its recipes."""
PIXEL_DIGITS = 6
"""Decimals of means and deviations, which are written there in 0..1 or in 0..255."""
BASIC = ("det_resnet18", "det_resnet34")
BACKBONES = {
    **{f"det_resnet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
    **{f"det_resnext{kind}": f"resnext{kind}" for kind in ("50_32x4d", "101_32x4d", "101_64x4d")},
}


class Key(NamedTuple):
    """What one of their keys is here."""

    settings: tuple[str, ...]
    """Dotted paths of our settings; none where the key has no counterpart."""
    note: str
    """What a person should know; where there is no setting, why."""
    read: Read
    is_lost: bool = False
    """Whether their value changes nothing here."""


def same(*settings: str, note: str = "") -> Key:
    """Make a key whose value is that of our settings."""
    return Key(settings, note, lambda value, given: dict.fromkeys(settings, value))


def choice(setting: str, values: Mapping[Any, Any], note: str = "") -> Key:
    """Make a key of which each value has one of ours."""

    def read(value: Any, given: Given) -> Given:
        if value not in values:
            raise ValueError(f"expected {_one_of(values)}, got {value!r}")
        return {setting: values[value]}

    return Key((setting,), note, read)


def only(expected: Any, reason: str) -> Key:
    """Make a key that has no setting, since every network or run here has this value."""

    def read(value: Any, given: Given) -> Given:
        if value != expected:
            raise ValueError(f"expected {expected!r}, got {value!r}; {reason}")
        return {}

    return Key((), f"always {expected!r}: {reason}", read)


def follows(expected: Callable[[Given], Any], reason: str) -> Key:
    """Make a key that has no setting, since its value follows from others; `expected` may give None for any."""

    def read(value: Any, given: Given) -> Given:
        should = expected(given)
        if should is not None and value != should:
            raise ValueError(f"expected {should!r}, got {value!r}; {reason}")
        return {}

    return Key((), reason, read)


def lost(reason: str) -> Key:
    """Make a key that changes nothing here."""
    return Key((), reason, lambda value, given: {}, is_lost=True)


def _one_of(values: Mapping[Any, Any]) -> str:
    return ("one of " if len(values) > 1 else "") + ", ".join(map(str, values))


def _like(key: str) -> Callable[[Given], Any]:
    return lambda given: given.get(key)


def _net(value: Any, given: Given) -> Given:
    if value != "MaskRCNN":
        raise ValueError(f"expected MaskRCNN, got {value!r}, which predicts no masks")
    return CONVENTIONS


def _in_channels(given: Given) -> list[int]:
    base = [64, 128, 256, 512]
    return base if given.get("backbone.name") in BASIC else [4 * channels for channels in base]


def _twice_the_resolution(given: Given) -> list[int] | None:
    side = given.get("mask_head.resolution")
    return [2 * side] * 2 if isinstance(side, int) else None


def _anchor_sizes(value: Any, given: Given) -> Given:
    if not isinstance(value, list) or not all(isinstance(level, list) and len(level) == 1 for level in value):
        raise ValueError(f"expected a list with one size in a list for each level, got {value!r}")
    return {"model.rpn.anchor_sizes": [level[0] for level in value]}


def _two_layers(value: Any, given: Given) -> Given:
    if value != "RCNNBBoxTwoFCHead":
        raise ValueError(f"expected RCNNBBoxTwoFCHead, got {value!r}")
    return {"model.box_head.num_convs": 0, "model.box_head.num_fcs": 2}


def _warmup_ratio(value: Any, given: Given) -> Given:
    return {"train.schedule.warmup_factor": value} if given.get("lr.warmup_step", 1) else {}


def _filter(value: Any, given: Given) -> Given:
    return {"train.optimizer.weight_decay_norm": 0.0 if value else given.get("optimizer.weight_decay", 0.0)}


def _steps(split: str) -> str:
    return f"data.{split}_transforms.item_transforms"


def _sides(split: str) -> Key:
    """Make the key of the size to which images are fitted."""

    def read(value: Any, given: Given) -> Given:
        sides = [value, value] if isinstance(value, int) else value
        if not isinstance(sides, list) or len(sides) != 2 or not all(isinstance(side, int) for side in sides):
            raise ValueError(f"expected [height, width], got {value!r}")
        _expect_both_alike(split, "Resize.target_size", value, given)
        return {"data.short_sides": [sides[0]], "data.max_side": sides[1]}

    return Key(("data.short_sides", "data.max_side"), "height and width of the box of `data.fit=box`", read)


def _pixels(split: str, name: str) -> Key:
    """Make the key of the mean or the deviation of pixels."""
    setting = f"data.{name}"

    def in_bytes(of: str, value: Any, given: Given) -> list[float]:
        scale = 255 if given.get(f"{_steps(of)}.NormalizeImage.is_scale", True) else 1
        return [round(scale * number, PIXEL_DIGITS) for number in value]

    def read(value: Any, given: Given) -> Given:
        if not isinstance(value, list) or not all(isinstance(number, int | float) for number in value):
            raise ValueError(f"expected a list of numbers, got {value!r}")
        ours = in_bytes(split, value, given)
        trained = given.get(f"{_steps('train')}.NormalizeImage.{name}")
        if split == "eval" and isinstance(trained, list) and in_bytes("train", trained, given) != ours:
            raise ValueError(f"expected what train_transforms has, since {setting} is of both, got {value!r}")
        return {setting: ours}

    return Key((setting,), "in 0..255, times 255 where `is_scale` is true", read)


def _expect_both_alike(split: str, name: str, value: Any, given: Given) -> None:
    trained = given.get(f"{_steps('train')}.{name}", value)
    if split == "eval" and trained != value:
        raise ValueError(
            f"expected {trained!r}, which train_transforms has, since one setting is of both, got {value!r}"
        )


def _transforms(split: str) -> dict[str, Key]:
    """Make the keys of the steps that images go through."""
    keys = {
        "Resize.target_size": _sides(split),
        "Resize.keep_ratio": only(True, "images keep their proportions"),
        "Resize.interp": only(None, "`data.averaging` is its only setting"),
        "NormalizeImage.is_scale": follows(lambda given: None, "says whether mean and std are of 0..1 or of 0..255"),
        "NormalizeImage.norm_type": only("mean_std", "data.mean=[0,0,0] data.std=[1,1,1] leave pixels as they are"),
        "NormalizeImage.mean": _pixels(split, "mean"),
        "NormalizeImage.std": _pixels(split, "std"),
        "TransposeImage.hwc2chw": lost("how tensors lie in memory is chosen for each device"),
        "TransposeImage.bgr2rgb": lost(
            "networks see red, green, blue. There, training with `True` turns images, which are RGB already, to BGR, "
            "and evaluation does not"
        ),
        "LabelsPadding.padding_size": lost("every object of an image counts, however many there are"),
        "LabelsPadding.padding_value": lost("slots without an object are marked as such"),
    }
    if split == "train":
        keys["RandomFlip.prob"] = same("data.flip")
        keys |= {f"RandomHSV.{gain}": only(0, "colours are not changed") for gain in ("hgain", "sgain", "vgain")}
    return {f"{_steps(split)}.{name}": key for name, key in keys.items()}


STEPS_LEFT_OUT = {f"{_steps('train')}.RandomFlip.prob": 0.0}
"""Values of steps that a list of steps does not name."""
READ_ELSEWHERE = "there, prediction reads `train_proposal` too, so that this changes nothing"
NOT_READ = "nothing reads it there either"
OF_THE_PYRAMID = "as wide as the pyramid (`backbone.out_channels`)"

KEYS: dict[str, Key] = {
    "net": Key(tuple(CONVENTIONS), "brings what stands in that system's code", _net),
    "num_workers": same("data.num_workers"),
    "prefetch_size": same("data.prefetch_size"),
    "max_rowsize": same("data.max_rowsize"),
    "data.dataset_name": lost(NOT_READ),
    "data.dataset_dir": same("data.dataset_dir"),
    "data.train_img_dir": same("data.train_img_dir"),
    "data.train_anno_path": same("data.train_anno_path"),
    "data.val_img_dir": same("data.val_img_dir"),
    "data.val_anno_path": same("data.val_anno_path"),
    "data.test_img_dir": lost("nothing is evaluated on test images; `data.val_img_dir` may name them"),
    "data.test_anno_path": lost("nothing is evaluated on test images; `data.val_anno_path` may name their file"),
    "data.nc": lost("the number of classes is that of the annotations' categories"),
    "data.names": lost("names of classes are those of the annotations' categories"),
    "data.detection_require_poly": lost(NOT_READ),
    "data.is_segment": only(True, "masks are always learnt"),
    "data.seg_size": lost(f"{NOT_READ}; masks have twice the cells of `mask_head.resolution` on each side"),
    "data.num_parallel_workers": same("data.num_workers"),
    **_transforms("train"),
    **_transforms("eval"),
    "backbone.name": choice("model.backbone.kind", BACKBONES),
    "backbone.pretrained": choice(
        "model.backbone.pretrained",
        {True: "imagenet", False: ""},
        "torchvision's weights, where that system has MindCV's",
    ),
    "backbone.in_channels": follows(_in_channels, "follows from `backbone.name`"),
    "backbone.out_channels": same("model.neck.channels"),
    "backbone.frozen_2stage": choice("model.backbone.frozen_stages", {True: 2, False: 0}, "stem and first stage"),
    "backbone.frozen_bn": choice(
        "model.backbone.norm",
        {False: "batch_norm", True: "frozen_batch_norm"},
        "live batch norm has the statistics of one device's images; there those of all, on Ascend alone. At 7c04d53 "
        "`True` also clips gradients, as `clip_grads` does",
    ),
    "backbone.frozen": only(
        False, "it freezes the pyramid too; model.backbone.frozen_stages=5 freezes the backbone alone"
    ),
    "backbone.fpn.num_outs": only(5, "the pyramid has five levels"),
    "backbone.fpn.level_index": only([0, 1, 2, 3], "the pyramid stands on all stages of the backbone"),
    "backbone.fpn.norm": choice(
        "model.head_norm", {"none": "none"}, "`bn` normalises the pyramid alone, here `model.head_norm` the heads too"
    ),
    "backbone.fpn.act": only("none", "the pyramid has no activation"),
    "backbone.fpn.upsample_mode": choice("model.neck.upsample", {"bilinear": "bilinear", "nearest": "nearest"}),
    "rpn_head.feat_channel": follows(_like("backbone.out_channels"), OF_THE_PYRAMID),
    "rpn_head.anchor_generator.aspect_ratios": same("model.rpn.aspect_ratios"),
    "rpn_head.anchor_generator.anchor_sizes": Key(
        ("model.rpn.anchor_sizes",), "one size for each level", _anchor_sizes
    ),
    "rpn_head.anchor_generator.strides": only([4, 8, 16, 32, 64], "they are those of the pyramid"),
    "rpn_head.rpn_label_assignment.rnp_sample_batch": same("model.rpn.num_samples"),
    "rpn_head.rpn_label_assignment.fg_fraction": same("model.rpn.positive_fraction"),
    "rpn_head.rpn_label_assignment.negative_overlap": same("model.rpn.negative_iou"),
    "rpn_head.rpn_label_assignment.positive_overlap": same("model.rpn.positive_iou"),
    "rpn_head.rpn_label_assignment.use_random": only(True, "samples are always drawn at random"),
    "rpn_head.train_proposal.min_size": lost("boxes of any size above 0 are proposals"),
    "rpn_head.train_proposal.nms_thresh": same(
        "model.rpn.nms_threshold", note="on each level; there once more on all levels together"
    ),
    "rpn_head.train_proposal.pre_nms_top_n": same(
        "model.rpn.num_train_candidates", "model.rpn.num_test_candidates", note="prediction reads it there too"
    ),
    "rpn_head.train_proposal.post_nms_top_n": same(
        "model.rpn.num_train_proposals", "model.rpn.num_test_proposals", note="prediction reads it there too"
    ),
    "rpn_head.test_proposal.min_size": lost(READ_ELSEWHERE),
    "rpn_head.test_proposal.nms_thresh": lost(READ_ELSEWHERE),
    "rpn_head.test_proposal.pre_nms_top_n": lost(READ_ELSEWHERE),
    "rpn_head.test_proposal.post_nms_top_n": lost(READ_ELSEWHERE),
    "bbox_head.resolution": same("model.box_head.pool_size"),
    "bbox_head.bbox_loss": lost(f"{NOT_READ}; `model.smooth_l1_beta` is the loss's only setting"),
    "bbox_head.add_gt_as_proposals": only(True, "annotated boxes are always among the proposals that are learnt"),
    "bbox_head.head.name": Key(
        ("model.box_head.num_convs", "model.box_head.num_fcs"), "two fully connected layers", _two_layers
    ),
    "bbox_head.head.in_channel": follows(_like("backbone.out_channels"), OF_THE_PYRAMID),
    "bbox_head.head.out_channel": same("model.box_head.hidden"),
    "bbox_head.roi_extractor.featmap_strides": only([4, 8, 16, 32], "they are those of the pyramid"),
    "bbox_head.bbox_assigner.name": lost(NOT_READ),
    "bbox_head.bbox_assigner.rois_per_batch": same("model.box_head.num_rois"),
    "bbox_head.bbox_assigner.bg_thresh": follows(
        _like("bbox_head.bbox_assigner.fg_thresh"), "a box is positive or background, as `fg_thresh` says"
    ),
    "bbox_head.bbox_assigner.fg_thresh": same("model.box_head.positive_iou"),
    "bbox_head.bbox_assigner.fg_fraction": same("model.box_head.positive_fraction"),
    "mask_head.resolution": same("model.mask_head.pool_size"),
    "mask_head.mask_shape": follows(_twice_the_resolution, "twice `mask_head.resolution`"),
    "mask_head.head.in_channel": follows(_like("backbone.out_channels"), OF_THE_PYRAMID),
    "mask_head.head.out_channel": same("model.mask_head.channels"),
    "mask_head.head.num_convs": same("model.mask_head.num_convs"),
    "mask_head.roi_extractor.featmap_strides": only([4, 8, 16, 32], "they are those of the pyramid"),
    "optimizer.type": choice("train.optimizer.kind", {"momentum": "sgd", "sgd": "sgd"}, "both are SGD with momentum"),
    "optimizer.weight_decay": same("train.optimizer.weight_decay"),
    "optimizer.momentum": same("train.optimizer.momentum"),
    "optimizer.nesterov": only(False, "there is no setting for Nesterov's momentum"),
    "optimizer.filter_bias_and_bn": Key(
        ("train.optimizer.weight_decay_norm",), "of norms; biases of other layers decay here in any case", _filter
    ),
    "lr.warmup_step": same("train.schedule.warmup_steps"),
    "lr.warmup_ratio": Key(
        ("train.schedule.warmup_factor",),
        "the `0001` of the published files is the number 1, so that the rate does not rise there; 0.001 is our default",
        _warmup_ratio,
    ),
    "lr.decay_rate": same("train.schedule.decay"),
    "lr.milestones": same("train.schedule.milestones", note="in epochs, as there"),
    "clip_grads": choice(
        "train.optimizer.clip_norm",
        {False: 0.0, True: 1.0},
        "of all devices' mean gradient; there of each device's own",
    ),
    "epochs": same("train.epochs"),
    "infer.conf_threshold": same("model.box_head.score_threshold"),
    "infer.nms_threshold": same("model.box_head.nms_threshold"),
    "infer.max_box_num": same("model.box_head.num_detections", note="there, nothing limits detections but COCO's 100"),
    "infer.predict_box_format": only("xyxy", "it is one box format for all"),
    "infer.eval_parallel": lost("every process takes part in an evaluation"),
    "infer.with_postprocess": lost(NOT_READ),
}
"""What each key is here, by its dotted path; a list of steps, such as `item_transforms`, counts as a section."""
