"""Kinds of values, and the role of a setting, which its type names."""

from enum import StrEnum
from typing import Annotated, TypeVar

from msgspec import Meta, Struct

LARGEST = 1_000_000_000
"""Largest number that a setting may be, unless its type says less: no machine has more of anything."""
FARTHEST = 1e30
"""Largest learning rate, which only has to be finite: numbers of 32 bits reach to 3e38."""
Positive = Annotated[int, Meta(gt=0, le=LARGEST)]
Natural = Annotated[int, Meta(ge=0, le=LARGEST)]
Layers = Annotated[int, Meta(gt=0, le=64)]
"""Number of layers, or of cells along a side of a box."""
Channels = Annotated[int, Meta(gt=0, le=16_384)]
"""Number of channels or units: two layers of more of them fill a gigabyte."""
Boxes = Annotated[int, Meta(gt=0, le=1_000_000)]
"""Number of boxes or points of an image."""
Threads = Annotated[int, Meta(ge=0, le=1024)]
"""Number of threads, or of what each prepares ahead."""
Side = Annotated[int, Meta(gt=0, le=1_000_000)]
"""Length in pixels."""
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Part = Annotated[float, Meta(ge=0.0, lt=1.0)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
AboveZero = Annotated[float, Meta(gt=0.0, le=float(LARGEST))]
NotNegative = Annotated[float, Meta(ge=0.0, le=float(LARGEST))]
Rate = Annotated[float, Meta(gt=0.0, le=FARTHEST)]
Factor = Annotated[float, Meta(gt=0.0, le=100.0)]
"""Factor by which images become larger or smaller."""
Spread = Annotated[float, Meta(ge=0.0, le=1000.0)]
"""Standard deviation in pixels or levels."""


class Role(StrEnum):
    """Role of a setting: what it decides, and so when it may change. Each setting names its role in its type."""

    NETWORK = "network"
    """Names and shapes of the weights' tensors. Stored with the weights and taken from them."""
    NORM = "norm"
    """Normalisation layers. As `network`, but live and frozen batch norm predict the same."""
    CONVENTION = "convention"
    """How given weights compute: another value gives other predictions. Stored with the weights and taken from them."""
    CLASSES = "classes"
    """Class names and category ids. Stored with the weights."""
    SIZE = "size"
    """Size of the images the network sees. Taken from the recipe, fixed within a run."""
    SELECTION = "selection"
    """Boxes that prediction keeps. Taken from the recipe, fixed within a run."""
    LEARNING = "learning"
    """Sampling, losses, augmentation and other choices of training. Fixed within a run; no prediction depends on it."""
    START = "start"
    """Initial weights of a run. Has no effect when a run is resumed."""
    RUN = "run"
    """Paths, duration, learning rate, speed, evaluation and logs. May change whenever a run is resumed."""


T = TypeVar("T")
Network = Annotated[T, Meta(extra={"role": Role.NETWORK})]
NormKind = Annotated[T, Meta(extra={"role": Role.NORM})]
Convention = Annotated[T, Meta(extra={"role": Role.CONVENTION})]
Classes = Annotated[T, Meta(extra={"role": Role.CLASSES})]
Size = Annotated[T, Meta(extra={"role": Role.SIZE})]
Selection = Annotated[T, Meta(extra={"role": Role.SELECTION})]
Learning = Annotated[T, Meta(extra={"role": Role.LEARNING})]
Start = Annotated[T, Meta(extra={"role": Role.START})]
Run = Annotated[T, Meta(extra={"role": Role.RUN})]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of a recipe. Unknown settings are refused."""
