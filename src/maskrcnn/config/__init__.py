"""Every setting, once: name, type, default, unit, reason and role. Recipes in YAML fill these structs."""

from typing import Literal

from maskrcnn.config.augment import Augment, Strength
from maskrcnn.config.data import Data, Fit, Format, Rounding
from maskrcnn.config.model import (
    MAX_LOG_SCALE,
    RPN,
    Backbone,
    BackboneKind,
    BoxHead,
    MaskHead,
    Model,
    Neck,
    PointHead,
    RoIAlign,
)
from maskrcnn.config.roles import FARTHEST, LARGEST, Classes, Network, Positive, Role, Run, Settings
from maskrcnn.config.train import Evaluate, Execution, Optimizer, Schedule, Train

__all__ = [
    "FARTHEST",
    "LARGEST",
    "MAX_LOG_SCALE",
    "RPN",
    "Augment",
    "Backbone",
    "BackboneKind",
    "BoxHead",
    "Data",
    "Evaluate",
    "Execution",
    "Fit",
    "Format",
    "MaskHead",
    "Model",
    "Neck",
    "Network",
    "Optimizer",
    "PointHead",
    "Positive",
    "Recipe",
    "RoIAlign",
    "Role",
    "Rounding",
    "Schedule",
    "Settings",
    "Strength",
    "Train",
]


class Recipe(Settings, frozen=True):
    """A recipe: all settings of a run."""

    name: Run[str] = "mask_rcnn"
    """Name of the run's folder."""
    device: Run[Literal["auto", "cpu", "gpu", "ascend", "mps", "xpu", "accelerator"]] = "auto"
    """Device: `auto` takes an accelerator where there is one, otherwise the CPU; `mps` is Apple's GPU, `xpu` Intel's,
    `accelerator` any that torch finds."""
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    classes: Classes[tuple[str, ...]] = ()
    """Class names in label order, written with the weights; left empty in a recipe, they come from the annotations."""
    category_ids: Classes[tuple[int, ...]] = ()
    """Category ids of the classes in the annotations, in label order, written with the weights."""
