"""Settings of augmentation: what chance changes in the images of training."""

from typing import Annotated, Literal

from msgspec import Meta

from maskrcnn.config.roles import Factor, Fraction, Learning, Settings, Spread

Strength = Literal["off", "light", "medium", "strong"]
Angle = Annotated[float, Meta(ge=0.0, le=180.0)]
Turn = Annotated[float, Meta(ge=0.0, le=0.5)]
Quality = Annotated[int, Meta(ge=1, le=100)]


class Augment(Settings, frozen=True):
    """Augmentation of training images; docs/augmentation.md has a picture of each piece and the table of strengths."""

    strength: Learning[Strength] = "off"
    """Level that decides every piece below whose own setting is null; `off` leaves images as they are, but for
    `data.flip`."""
    scale: Learning[tuple[Factor, Factor] | None] = None
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
    brightness: Learning[Fraction | None] = None
    """Largest change of brightness: levels are multiplied by a factor between 1 less and 1 more than this."""
    contrast: Learning[Fraction | None] = None
    """Largest change of contrast: distances from each band's mean are multiplied by a factor, as with `brightness`."""
    saturation: Learning[Fraction | None] = None
    """Largest change of saturation: distances from gray are multiplied by a factor, as with `brightness`; for images of
    three bands."""
    hue: Learning[Turn | None] = None
    """Largest change of hue, in turns of the colour circle to either side; for images of three bands."""
    blur: Learning[Spread | None] = None
    """Largest standard deviation, in pixels of the resized image, of the Gaussian that blurs it."""
    noise: Learning[Spread | None] = None
    """Largest standard deviation of the normal noise that is added to pixels, in levels of 0..255."""
    jpeg: Learning[Quality | None] = None
    """Lowest quality of JPEG compression, by which images are compressed where they are decoded; 100 compresses none;
    for images of three bands."""
    copy_paste: Learning[Fraction | None] = None
    """Probability of each object of the neighbour in the batch to be pasted onto an image, where it is there; batches
    need an even number of images."""
    blend: Learning[Spread | None] = None
    """Standard deviation in pixels of the Gaussian that softens the edges of what `copy_paste` pastes; 0 leaves them
    sharp."""
