"""Settings of training and evaluation."""

from typing import Annotated, Literal

from msgspec import Meta

from maskrcnn.config.roles import (
    Factor,
    Fraction,
    Learning,
    Natural,
    NotNegative,
    Part,
    Positive,
    Rate,
    Run,
    Settings,
    Share,
)

Execution = Literal["auto", "eager", "captured", "compiled"]


class Optimizer(Settings, frozen=True):
    """The optimizer."""

    kind: Learning[Literal["sgd", "adamw"]] = "sgd"
    """Algorithm: SGD for pretrained weights and long schedules, AdamW for small networks."""
    lr: Run[Rate] = 0.02
    """Learning rate for a batch of `lr_batch` images; scaled linearly with `train.batch`."""
    lr_batch: Run[Positive] = 16
    """Batch size that `lr` is meant for."""
    momentum: Run[Fraction] = 0.9
    """Momentum of SGD; AdamW has betas 0.9 and 0.999."""
    weight_decay: Run[NotNegative] = 1e-4
    """Weight decay of all weights and biases except those of norms; AdamW decouples it from the gradient."""
    weight_decay_norm: Run[NotNegative] = 0.0
    """Weight decay of the scales and biases of norms."""
    layer_decay: Run[Share] = 1.0
    """Factor of the learning rate from each part of the network to the one before it: neck and heads have all of it,
    the backbone's last stage this share, the stage before it this share squared, down to the stem; 1 has one rate."""
    clip_norm: Run[NotNegative] = 0.0
    """Largest norm of the gradient of all weights together; 0 does not clip."""


class Schedule(Settings, frozen=True):
    """The schedule of the learning rate."""

    kind: Run[Literal["steps", "cosine"]] = "steps"
    """Shape: `steps` decays at each milestone, `cosine` falls along half a cosine to 0."""
    warmup_steps: Run[Natural] = 1000
    """Number of steps over which the learning rate rises linearly to its full value."""
    warmup_factor: Run[Fraction] = 0.001
    """Learning rate of the first step, as a fraction of its full value."""
    milestones: Run[tuple[Positive, ...]] = (8, 11)
    """Epochs after which the schedule `steps` multiplies the learning rate by `decay`."""
    decay: Run[Fraction] = 0.1
    """Factor of the learning rate at each milestone."""


class Train(Settings, frozen=True):
    """A training run."""

    epochs: Run[Positive] = 12
    """Number of passes over the training images."""
    max_steps: Run[Natural] = 0
    """Number of steps after which training stops; 0 trains all epochs."""
    minutes: Run[NotNegative] = 0.0
    """Time in minutes that training takes, evaluations and saving included: as many steps as fit, with the whole
    schedule run; `epochs`, in which milestones and evaluations count, are then equal parts of it. 0 trains all epochs,
    however long."""
    patience: Run[Natural] = 0
    """Number of evaluations without a higher mask AP (box AP where there are no masks) after which training stops
    early; 0 never does."""
    batch: Learning[Positive] = 16
    """Number of images per update, over all devices and accumulated micro-batches."""
    micro_batch: Run[Natural] = 0
    """Number of images on one device at once, at most; 0 takes `batch` / devices."""
    mixed_precision: Run[bool] = False
    """Whether training uses bf16, or fp16 with loss scaling where there is none; a CPU without bf16 keeps float32."""
    execution: Run[Execution] = "auto"
    """How a step runs: `eager` operator by operator; `captured` as one CUDA graph for each padded size; `compiled` as
    fused kernels, on a CUDA GPU captured too. `auto` takes, on a CUDA GPU, the first of `compiled`, `captured` and
    `eager` that works, and `eager` elsewhere; no other value is ever replaced by a simpler one."""
    recompute: Run[bool] = False
    """Whether the backward pass computes the backbone's activations again instead of keeping them: more images fit into
    memory, and each step takes longer by most of the backbone's forward pass."""
    deterministic: Run[bool] = False
    """Whether a repeated run gives the same bits on the same GPU, at the cost of some slower kernels; a CPU always
    does."""
    ema: Run[Part] = 0.0
    """Decay per step of a moving average of the weights, which is then evaluated and saved; 0 keeps none. At 1
    the first weights would stay."""
    ema_warmup: Run[Natural] = 9
    """Number w that shortens the average of `ema` in the beginning: after t steps its decay is at most
    (1 + t) / (1 + w + t), so that it covers about the last 1 / w of them; 0 has the whole decay from the first step."""
    evaluate_every: Run[Natural] = 1
    """Number of epochs between evaluations; the last epoch is always evaluated, unless this is 0."""
    checkpoint_every: Run[Natural] = 0
    """Number of steps between checkpoints; 0 writes one at the end of each epoch."""
    keep_checkpoints: Run[Positive] = 2
    """Number of checkpoints that are kept; older ones are deleted."""
    log_every: Run[Positive] = 20
    """Number of steps between log lines."""
    tensorboard: Run[bool] = False
    """Whether curves are also written for TensorBoard; needs `pip install tensorboard`."""
    seed: Learning[Natural] = 1234
    """Random seed: decides the initial weights and, with epoch and image, every order, flip and sample."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()


class Evaluate(Settings, frozen=True):
    """Evaluation on the validation images, and prediction."""

    batch: Run[Positive] = 1
    """Number of images on one device at once, also in prediction."""
    mixed_precision: Run[bool] = False
    """Whether evaluation uses bf16 or fp16, as `train.mixed_precision`; prediction does too, unless told otherwise."""
    execution: Run[Execution] = "auto"
    """How a batch runs in evaluation and prediction, as `train.execution`."""
    scales: Run[Annotated[tuple[Factor, ...], Meta(max_length=64)]] = (1.0,)
    """Sizes at which each image is seen, as factors of the usual one, also in prediction; what is found at all of them
    is merged. Each size takes its square of the usual time."""
    flip: Run[bool] = False
    """Whether each image is seen mirrored too, at each of `scales`, which doubles the time."""
    max_dets: Run[Positive] = 100
    """Number of results of one class in an image that count: other than 100 adds scores such as `AP@300` to COCO's own,
    which count 100."""
    boundary: Run[bool] = True
    """Whether boundary AP (Cheng et al. 2021) stands beside mask AP: it sees edges that are a few pixels off, also on
    large objects. Costs a few milliseconds an image at most, while the model is busy with the next."""
