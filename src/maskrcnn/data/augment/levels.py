"""What each strength of augmentation means, in one table."""

from typing import NamedTuple

from maskrcnn.config import Augment, Strength

OF_COLOURS = ("saturation", "hue", "jpeg")
"""Pieces for images of red, green and blue alone."""


class Pieces(NamedTuple):
    """Every piece of augmentation, decided; its names are those of the settings, and its defaults change nothing."""

    scale: tuple[float, float] = (1.0, 1.0)
    whole_objects: float = 0.0
    angle: float = 0.0
    flip_vertical: float = 0.0
    quarter_turns: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 100
    copy_paste: float = 0.0
    blend: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether windows are anything but whole images, upright or turned by quarters."""
        return self.scale != (1.0, 1.0) or self.angle > 0

    @property
    def distorts(self) -> bool:
        """Whether pixels are changed where they are."""
        return any((self.brightness, self.contrast, self.saturation, self.hue, self.blur, self.noise))


LEVELS: dict[Strength, Pieces] = {
    "off": Pieces(),
    "light": Pieces(scale=(0.8, 1.25), whole_objects=0.5, brightness=0.0625, contrast=0.25, saturation=0.25, hue=0.025),
    "medium": Pieces(
        scale=(0.5, 1.5), whole_objects=0.5, angle=5.0, brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05
    ),
    "strong": Pieces(
        scale=(0.1, 2.0),
        whole_objects=0.5,
        angle=10.0,
        brightness=0.4,
        contrast=0.5,
        saturation=0.7,
        hue=0.05,
        blur=1.0,
        noise=7.0,
        jpeg=75,
    ),
}
"""No level turns images upside down or on their side: whether objects look the same then is for a person to say. None
pastes objects: that asks for batches of an even number of images.

Colours of `medium` are those of torchvision's RandomPhotometricDistort (after SSD, Liu et al. 2016), of `light` half of
them, of `strong` brightness and saturation those of YOLOv5's recipes. Its blur is the mildest of ImageNet-C (Hendrycks
and Dietterich 2019), its noise the strongest of Albumentations' default, its JPEG quality that of YOLOv5's."""


def resolve(settings: Augment, num_bands: int = 3) -> Pieces:
    """The pieces of a strength, each but where a setting of its own says otherwise.

    num_bands   of the images: with any but three, what is made for colours is left out

    >>> resolve(Augment(strength="light", whole_objects=0.0))[:3]
    ((0.8, 1.25), 0.0, 0.0)
    """
    own = {name: getattr(settings, name) for name in Pieces._fields}
    pieces = LEVELS[settings.strength]._replace(**{name: value for name, value in own.items() if value is not None})
    return pieces if num_bands == 3 else pieces._replace(**{name: Pieces._field_defaults[name] for name in OF_COLOURS})
