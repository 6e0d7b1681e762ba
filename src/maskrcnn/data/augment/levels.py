"""What each strength of augmentation means, in one table."""

from typing import NamedTuple

from maskrcnn.config import Augment, Strength


class Pieces(NamedTuple):
    """Every piece of augmentation, decided; its names are those of the settings, and its defaults change nothing."""

    scale: tuple[float, float] = (1.0, 1.0)
    whole_objects: float = 0.0
    angle: float = 0.0
    flip_vertical: float = 0.0
    quarter_turns: bool = False

    @property
    def moves(self) -> bool:
        """Whether windows are anything but whole images, upright or turned by quarters."""
        return self.scale != (1.0, 1.0) or self.angle > 0


LEVELS: dict[Strength, Pieces] = {
    "off": Pieces(),
    "light": Pieces(scale=(0.8, 1.25), whole_objects=0.5),
    "medium": Pieces(scale=(0.5, 1.5), whole_objects=0.5, angle=5.0),
    "strong": Pieces(scale=(0.1, 2.0), whole_objects=0.5, angle=10.0),
}
"""No level turns images upside down or on their side: whether objects look the same then is for a person to say."""


def resolve(settings: Augment) -> Pieces:
    """The pieces of a strength, each but where a setting of its own says otherwise.

    >>> resolve(Augment(strength="light", whole_objects=0.0))[:3]
    ((0.8, 1.25), 0.0, 0.0)
    """
    own = {name: getattr(settings, name) for name in Pieces._fields}
    return LEVELS[settings.strength]._replace(**{name: value for name, value in own.items() if value is not None})
