"""Settings that recipes and weights of earlier versions know by another name."""

RENAMED = {
    "model.norm": "model.backbone.norm",
    "model.width": "model.backbone.width",
    "model.stride_in_1x1": "model.backbone.stride_in_1x1",
    "model.stem_pool": "model.backbone.stem_pool",
    "model.pretrained": "model.backbone.pretrained",
    "model.frozen_stages": "model.backbone.frozen_stages",
    "model.channels": "model.neck.channels",
    "model.upsample": "model.neck.upsample",
    "model.roi_half_pixel": "model.roi_align.half_pixel",
    "model.roi_samples": "model.roi_align.sampling_ratio",
    "model.rpn.convs": "model.rpn.num_convs",
    "model.rpn.samples": "model.rpn.num_samples",
    "model.rpn.train_candidates": "model.rpn.num_train_candidates",
    "model.rpn.train_proposals": "model.rpn.num_train_proposals",
    "model.rpn.test_candidates": "model.rpn.num_test_candidates",
    "model.rpn.test_proposals": "model.rpn.num_test_proposals",
    "model.rpn.nms_iou": "model.rpn.nms_threshold",
    "model.box_head.pool": "model.box_head.pool_size",
    "model.box_head.convs": "model.box_head.num_convs",
    "model.box_head.fcs": "model.box_head.num_fcs",
    "model.box_head.rois": "model.box_head.num_rois",
    "model.box_head.score": "model.box_head.score_threshold",
    "model.box_head.nms_iou": "model.box_head.nms_threshold",
    "model.box_head.candidates": "model.box_head.num_candidates",
    "model.box_head.detections": "model.box_head.num_detections",
    "model.mask_head.pool": "model.mask_head.pool_size",
    "model.mask_head.convs": "model.mask_head.num_convs",
    "model.mask_head.rois": "model.mask_head.num_rois",
}
"""Former dotted path to today's."""
SECTIONS = {"model.backbone": "model.backbone.kind"}
"""Former settings that are sections now, and the setting that holds what they held."""
