"""The whole network: one graph, no waiting for the device, shapes that no value decides."""

import pytest
import torch
from msgspec import structs
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from maskrcnn import config
from maskrcnn.data.augment.copy_paste import paste
from maskrcnn.data.augment.levels import LEVELS
from maskrcnn.data.augment.pixels import Normalising, distort
from maskrcnn.data.transforms import to_pixels
from maskrcnn.models.layers import folded
from maskrcnn.models.mask_rcnn import build
from maskrcnn.runtime.execution import Captured
from maskrcnn.structures import ImageBatch, MicroBatch, Targets
from maskrcnn.view import View

TINY = config.Model(
    backbone=config.Backbone(kind="resnet18", norm="group_norm", frozen_stages=0, width=16),
    neck=config.Neck(channels=16),
    rpn=config.RPN(
        num_samples=600, num_train_candidates=50, num_train_proposals=40, num_test_candidates=50, num_test_proposals=30
    ),
    box_head=config.BoxHead(hidden=32, num_rois=24, num_detections=10, num_candidates=60, score_threshold=0.01),
    mask_head=config.MaskHead(num_convs=2, channels=16, num_rois=6),
)
FINE = structs.replace(
    TINY,
    mask_head=structs.replace(TINY.mask_head, pool_size=28),
    point_head=config.PointHead(enabled=True, channels=8, subdivisions=1, num_test_points=50, num_points=20),
)
"""Masks of 56 cells, which a point head subdivides into 112."""
NUM_CLASSES = 3


@pytest.fixture(params=[TINY, FINE], ids=["", "fine"])
def settings(request):
    return request.param


@pytest.fixture
def model(settings):
    torch.manual_seed(1)
    return build(settings, NUM_CLASSES)


def cells_of(settings):
    """Cells along each side of a predicted mask."""
    return 2 * settings.mask_head.pool_size << settings.point_head.subdivisions * settings.point_head.enabled


def batch(num_images=2):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(num_images, 3, 64, 96, generator=generator).contiguous(memory_format=torch.channels_last)
    return ImageBatch(pixels, torch.tensor([[60.0, 90.0], [64.0, 80.0]])[:num_images])


def targets(num_images=2):
    """Two rectangles in the first image, a crowd in the second, the rest padding."""
    boxes = torch.zeros(2, 4, 4)
    boxes[0, 0], boxes[0, 1], boxes[1, 0] = (
        torch.tensor(b) for b in ([5.0, 6.0, 45.0, 36.0], [50, 20, 80, 55.0], [0, 0, 30, 60.0])
    )
    valid = torch.tensor([[True, True, False, False], [True, False, False, False]])
    labels = torch.tensor([[1, 3, 0, 0], [2, 0, 0, 0]])
    crowd = torch.zeros_like(valid)
    crowd[1, 0] = True
    edges = torch.zeros(2, 16, 4)
    first = torch.zeros(2, 5, dtype=torch.int64)
    for image in range(2):
        for g in range(4):
            start = int(first[image, g])
            first[image, g + 1] = start
            if valid[image, g]:
                x1, y1, x2, y2 = boxes[image, g].tolist()
                edges[image, start : start + 4] = torch.tensor(
                    [[x1, y1, x2, y1], [x2, y1, x2, y2], [x2, y2, x1, y2], [x1, y2, x1, y1]]
                )
                first[image, g + 1] = start + 4
    return Targets(*(x[:num_images] for x in (boxes, labels, crowd, valid, edges, first)))


KEYS = torch.tensor([101, -7])


def total(losses):
    return sum(value for name, value in losses.items() if not name.startswith("count/"))


def test_prediction_has_fixed_shapes_and_boxes_inside_each_image(model, settings):
    with torch.inference_mode():
        found = model(batch())
    assert found.boxes.shape == (2, 10, 4)
    assert found.masks.shape == (2, 10, *[cells_of(settings)] * 2)
    assert found.valid.any()
    limits = batch().sizes[:, None, [1, 0, 1, 0]]
    assert ((found.boxes >= 0) & (found.boxes <= limits)).all()
    assert (found.scores[:, :-1] >= found.scores[:, 1:]).all()
    assert found.labels[found.valid].min() >= 1
    assert found.labels.max() <= NUM_CLASSES


def test_losses_are_named_finite_and_reach_every_trained_weight(model, settings):
    losses = model.losses(batch(), targets(), KEYS)
    point = {"point_head/point"} if settings.point_head.enabled else set()
    assert {n for n in losses if not n.startswith("count/")} == point | {
        "rpn/objectness", "rpn/box", "box_head/class", "box_head/box", "mask_head/mask",
    }  # fmt: skip
    total(losses).backward()
    without = [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert without == []
    assert all(p.grad.abs().sum() > 0 for n, p in model.named_parameters() if n.endswith("weight"))


def test_the_loss_of_a_batch_is_the_mean_of_its_images(model):
    both = model.losses(batch(), targets(), KEYS)
    each = []
    for i in (slice(0, 1), slice(1, 2)):
        each.append(
            model.losses(*(type(t)(*(x[i] for x in t if x is not None)) for t in (batch(), targets())), KEYS[i])
        )
    for name in both:
        if not name.startswith("count/"):
            torch.testing.assert_close(both[name], (each[0][name] + each[1][name]) / 2, rtol=1e-5, atol=1e-6)


def test_images_without_objects_teach_background_alone(model):
    nothing = targets()._replace(valid=torch.zeros(2, 4, dtype=torch.bool))
    losses = model.losses(batch(), nothing, KEYS)
    assert losses["rpn/box"] == losses["box_head/box"] == losses["mask_head/mask"] == 0
    assert losses["rpn/objectness"] > 0
    assert losses["box_head/class"] > 0
    total(losses).backward()


def test_padding_of_the_targets_changes_nothing(model):
    short = targets()
    padded = Targets(
        *(torch.cat([x, x.new_zeros(2, 4, *x.shape[2:])], 1) for x in short[:4]),
        torch.cat([short.edges, torch.zeros(2, 16, 4)], 1),
        torch.cat([short.first_edge, short.first_edge[:, -1:].expand(-1, 4)], 1),
    )
    a, b = model.losses(batch(), short, KEYS), model.losses(batch(), padded, KEYS)
    for name in ("rpn/objectness", "rpn/box"):  # the sampled anchors are the same; RoIs are drawn from more slots
        torch.testing.assert_close(a[name], b[name])


def test_the_keys_decide_the_sample_and_nothing_else_does(model):
    a, again = (model.losses(batch(), targets(), KEYS) for _ in range(2))
    other = model.losses(batch(), targets(), KEYS + 1)
    assert all(torch.equal(a[n], again[n]) for n in a)
    assert not torch.equal(a["rpn/objectness"], other["rpn/objectness"])


@pytest.mark.parametrize("settings", [FINE], indirect=True)  # it has all parts
@pytest.mark.parametrize("is_pasted", [False, True])
def test_training_is_one_graph(model, is_pasted):
    lesson = MicroBatch(batch(), targets(), KEYS)
    lesson = paste(lesson, 1.0) if is_pasted else lesson
    eager = model.losses(*lesson)
    torch._dynamo.reset()
    traced = torch.compile(model.losses, fullgraph=True, backend="eager")(*lesson)
    for name, value in eager.items():
        torch.testing.assert_close(traced[name], value)


@pytest.mark.parametrize("settings", [FINE], indirect=True)  # it has all parts
def test_prediction_is_one_graph(model):
    torch._dynamo.reset()
    with torch.no_grad():
        traced = torch.compile(model, fullgraph=True, backend="eager")(batch())
        torch.testing.assert_close(traced.boxes, model(batch()).boxes)


def test_no_shape_depends_on_a_value(model, settings):
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = ImageBatch(torch.empty(2, 3, 64, 96), torch.empty(2, 2))
        annotated = Targets(
            torch.empty(2, 4, 4),
            torch.empty(2, 4, dtype=torch.int64),
            torch.empty(2, 4, dtype=torch.bool),
            torch.empty(2, 4, dtype=torch.bool),
            torch.empty(2, 16, 4),
            torch.empty(2, 5, dtype=torch.int64),
        )
        losses = model.losses(images, annotated, torch.empty(2, dtype=torch.int64))
        total(losses).backward()
        assert model(images).masks.shape == (2, 10, *[cells_of(settings)] * 2)


class HostWaits(TorchDispatchMode):
    """Counts operations that make the processor wait for the device, or a shape for a value."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal.default")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        boolean_index = "index.Tensor" in str(func) and any(i is not None and i.dtype == torch.bool for i in args[1])
        boolean_put = "index_put" in str(func) and any(i is not None and i.dtype == torch.bool for i in args[1])
        if boolean_index or boolean_put or any(name in str(func) for name in self.FORBIDDEN):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_step_never_waits_for_the_device(model):
    images, annotated = batch(), targets()
    with HostWaits() as waits:
        total(model.losses(images, annotated, KEYS)).backward()
        with torch.no_grad():
            model(images)
    assert waits.seen == []


def test_the_counter_of_waits_sees_them():
    with HostWaits() as waits:
        x = torch.arange(4)
        x[x > 1].sum().item()
        x.nonzero()
    assert len(waits.seen) >= 3


class HostTables(TorchFunctionMode):
    """Counts tensors made of Python numbers: elsewhere than on the CPU each is a copy that the processor waits for."""

    FRAMEWORKS = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        index = args[1] if func is torch.Tensor.__getitem__ else ()
        lists = [part for part in (index if isinstance(index, tuple) else (index,)) if isinstance(part, list)]
        if func in self.FRAMEWORKS or lists:
            self.seen.append(f"{func.__name__}{lists}")
        return func(*args, **(kwargs or {}))


def test_no_table_is_copied_to_the_device_in_a_step(settings):
    with torch.device("meta"):  # like a GPU it takes the operators' definitions, not the kernels of the CPU
        model = build(settings, NUM_CLASSES)
    whole = batch().sizes.long()
    pictures = torch.zeros(2, 64, 96, 3, dtype=torch.uint8, device="meta")
    view = View.whole(whole, whole)._replace(turns=torch.tensor([1, 2])).to(pictures.device)
    sizes, keys, *annotated = (tensor.to("meta") for tensor in (batch().sizes, KEYS, *targets()[:6]))
    normalising = Normalising(*torch.ones(2, 3, device="meta"))
    with HostTables() as tables:
        for settings in (config.Data(whole_levels=True), config.Data(), config.Data(padding="black")):
            pixels = to_pixels(pictures, whole.to("meta"), view, (64, 96), settings)
        images = ImageBatch(pixels, sizes)
        total(model.losses(images, Targets(*annotated), keys)).backward()
        with torch.no_grad():
            model(images)
        images = distort(images, pixels[:, :1] > 0, keys, LEVELS["strong"], normalising)
        total(model.losses(*paste(MicroBatch(images, Targets(*annotated), keys), 0.5, 1.0))).backward()
    assert tables.seen == []


def test_the_counter_of_tables_sees_them():
    with HostTables() as tables:
        x = torch.arange(12.0).view(3, 4)
        x[:, [1, 0]] + x.new_tensor((1.0, 2.0))
    assert len(tables.seen) == 2


def test_bf16_autocast_trains_and_predicts(model):
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(batch(), targets(), KEYS)
        assert all(value.dtype == torch.float32 for name, value in losses.items() if not name.startswith("count/"))
    total(losses).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.rpn.named_parameters())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert model(batch()).masks.isfinite().all()


OTHERS = {
    "torchvision": {
        "backbone": structs.replace(TINY.backbone, norm="batch_norm"),
        "roi_align": config.RoIAlign(half_pixel=False),
        "smooth_l1_beta": 1 / 9,
        "rpn": structs.replace(TINY.rpn, num_convs=2, anchor_offset=0.0, round_anchors=True, anchor_strides="divided"),
        "box_head": structs.replace(TINY.box_head, num_convs=2, num_fcs=1),
    },
    "detectron2": {
        "backbone": structs.replace(TINY.backbone, kind="resnext50_32x4d", norm="frozen_batch_norm"),
        "roi_align": config.RoIAlign(sampling_ratio=0),
        "box_head": structs.replace(TINY.box_head, class_agnostic=True),
        "mask_head": structs.replace(TINY.mask_head, class_agnostic=True),
    },
    "mindspore": {
        "backbone": structs.replace(TINY.backbone, kind="resnet50", stem_pool="end", stride_in_1x1=True),
        "neck": structs.replace(TINY.neck, upsample="bilinear"),
        "rpn": structs.replace(TINY.rpn, clip_to="batch", nms_across_levels=True),
        "box_head": structs.replace(TINY.box_head, clip="after_nms"),
    },
}
"""Settings that weights of other systems need."""


@pytest.fixture(params=OTHERS)
def other(request):
    torch.manual_seed(1)
    return build(structs.replace(TINY, **OTHERS[request.param]), NUM_CLASSES)


def test_networks_of_other_systems_do_not_wait_for_the_device_either(other):
    images, annotated = batch(), targets()
    with HostWaits() as waits:
        total(other.losses(images, annotated, KEYS)).backward()
    assert waits.seen == []
    assert all(p.grad is not None for p in other.parameters() if p.requires_grad)


@pytest.mark.exhaustive
def test_networks_of_other_systems_are_one_graph_too(other):
    torch._dynamo.reset()
    losses = other.losses(batch(), targets(), KEYS)
    traced = torch.compile(other.losses, fullgraph=True, backend="eager")(batch(), targets(), KEYS)
    for loss, value in losses.items():
        torch.testing.assert_close(traced[loss], value, rtol=1e-4, atol=1e-5)
    other.eval()
    with torch.no_grad():
        found = torch.compile(other, fullgraph=True, backend="eager")(batch())
        torch.testing.assert_close(found.boxes, other(batch()).boxes)


def test_slots_that_no_positive_fills_repeat_those_in_use(model):
    seen = []
    head = model.mask_head
    head.roi_align, real = (
        lambda levels, boxes, images: (seen.append(boxes), real(levels, boxes, images))[1],
        head.roi_align,
    )
    losses = model.losses(batch(), targets(), KEYS)
    num_positive = int(losses["count/positive_rois"] * 2)
    assert 0 < num_positive < len(seen[0])
    assert torch.equal(seen[0][num_positive], seen[0][0])


def test_the_published_architecture_has_the_published_number_of_weights():
    with torch.device("meta"):
        model = build(config.Model(), 90)
    background_of_torchvision = 4 * (1024 + 1) + (256 + 1)  # box deltas and a mask for background, which nothing reads
    # torchvision's table of maskrcnn_resnet50_fpn: num_params 44401393, for 90 classes and background
    assert sum(p.numel() for p in model.parameters()) == 44_401_393 - background_of_torchvision


def test_a_recorded_prediction_replays_to_what_an_eager_one_finds(model, tape):
    predict = Captured(folded(model.eval()), tape)
    other = batch()._replace(pixels=batch().pixels.flip(3))
    with torch.inference_mode():
        for images in (batch(), other, batch(), other):
            found, expected = predict(images), model(images)
            for name, part in expected._asdict().items():
                torch.testing.assert_close(getattr(found, name), part, rtol=1e-5, atol=1e-5)
    assert tape.num_recorded == 1
