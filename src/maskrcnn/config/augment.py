"""Settings of augmentation: what chance changes in the images of training."""

from typing import Annotated, Literal

from msgspec import Meta

from maskrcnn.config.roles import AboveZero, Fraction, Learning, Settings

Strength = Literal["off", "light", "medium", "strong"]
Angle = Annotated[float, Meta(ge=0.0, le=180.0)]


class Augment(Settings, frozen=True):
    """Augmentation of training images; docs/augmentation.md has a picture of each piece and the table of strengths."""

    strength: Learning[Strength] = "off"
    """Level that decides every piece below whose own setting is null; `off` leaves images as they are, but for
    `data.flip`."""
    scale: Learning[tuple[AboveZero, AboveZero] | None] = None
    """Scale jitter: factors, the lowest and the highest, between which the size of an image is drawn; what then exceeds
    its size without jitter (with `fit: box` the box) is cut off, what is missing is padding. Large-scale jitter is
    [0.1, 2.0] with `fit: box`."""
    whole_objects: Learning[Fraction | None] = None
    """Probability that what an enlarged image shows is placed around one of its objects, whole where it fits, rather
    than anywhere."""
    angle: Learning[Angle | None] = None
    """Largest angle in degrees by which an image is turned, to either side."""
    flip_vertical: Learning[Fraction | None] = None
    """Probability of a vertical flip; the horizontal one is `data.flip`."""
    quarter_turns: Learning[bool | None] = None
    """Whether an image is turned by 0, 90, 180 or 270 degrees, each as often."""
