"""Weights from anywhere: a published name, another framework's file, or our own folder, with their recipe."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from maskrcnn.config import Recipe
from maskrcnn.convert import zoo
from maskrcnn.convert.bring import bring
from maskrcnn.convert.classes import COCO_COUNTS, coco_classes
from maskrcnn.convert.detectron2 import DETECTRON2
from maskrcnn.convert.files import SUFFIXES, read_file
from maskrcnn.convert.framework import Channels, Framework, State, read
from maskrcnn.convert.mindspore import MINDSPORE
from maskrcnn.convert.mmdetection import MMDETECTION
from maskrcnn.convert.pickle_check import printable
from maskrcnn.convert.torchvision import TORCHVISION
from maskrcnn.recipes.adopt import from_text, override
from maskrcnn.recipes.read import read_overrides
from maskrcnn.run_folder import CONFIG
from maskrcnn.sentences import some_of, typed
from maskrcnn.storage.location import Location, Where, at
from maskrcnn.weights import Weights, check_finite, load_weights

OWN_NAME = "mask_head.masks.weight"
FRAMEWORKS = {framework.name: framework for framework in (TORCHVISION, MINDSPORE, DETECTRON2, MMDETECTION)}


def load_any(source: Where, overrides: Sequence[str] = (), channels: Channels = "") -> Weights:
    """Load weights and their recipe from a published name, another framework's file or our own folder.

    source      a name such as `torchvision://maskrcnn_resnet50_fpn`, which is downloaded once, a file of another
                framework, which is recognised by a published file name, or what `load_weights` takes; the last two may
                lie in a store or on the web, `s3://BUCKET/RUN`
    overrides   settings of the recipe that another framework's file does not contain, such as
                `model.backbone.stride_in_1x1=true`
    channels    channel order of that file's network, where it is not the usual one of its framework
    Raises FileNotFoundError, ConnectionError and ValueError with what to do.
    """
    if zoo.is_name(source):
        published = _published_detector(str(source))
        return _load_foreign(zoo.download(published), published, overrides, channels)
    place = at(source)
    if isinstance(place, Location):
        return load_any(bring(place), overrides, channels)._replace(origin=str(place))
    path = place.expanduser()
    is_ours = path.suffix == ".safetensors" and path.with_name(CONFIG).is_file()
    if path.suffix.lower() in SUFFIXES and not path.is_dir() and not is_ours:
        return _load_foreign(path, zoo.of_file(path.name), overrides, channels)
    if channels or any(one.partition(".")[0] == "model" for one in _paths(overrides)):
        raise ValueError(
            f"{path} has a recipe beside it, which describes its network; leave out model.* and {typed('--channels')}"
        )
    weights = load_weights(path)
    return weights._replace(recipe=override(weights.recipe, overrides, weights.origin)) if overrides else weights


def _paths(overrides: Sequence[str]) -> list[str]:
    return [path for path, _ in read_overrides(overrides).settings]


def framework_of(state: State) -> Framework:
    """Find the framework that named these tensors."""
    for framework in FRAMEWORKS.values():
        if framework.recognises(state):
            return framework
    names = some_of(map(printable, state), 3)
    raise ValueError(f"expected a Mask R-CNN of {', '.join(FRAMEWORKS)}, received tensors named {names}")


def _published_detector(name: str) -> zoo.Published:
    published = zoo.find(name)
    if not published.classes:
        raise ValueError(f"{name} is a backbone; train on it with model.backbone.pretrained={name}")
    return published


def _load_foreign(path: Path, published: zoo.Published | None, overrides: Sequence[str], channels: Channels) -> Weights:
    content = read_file(path)
    if OWN_NAME in content.tensors:
        return load_weights(path)  # says that its recipe is missing
    hint = content.hint
    if published is not None:
        hint, overrides = f"{published.name} {hint}", [*published.overrides, *overrides]
    try:
        known = from_text(content.recipe, f"the recipe in {path}") if content.recipe else None
        weights = read(framework_of(content.tensors), content.tensors, hint, overrides, channels, known)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    check_finite(weights.tensors, path)
    return weights._replace(recipe=_with_names(weights.recipe, content.classes), origin=str(path))


def _with_names(recipe: Recipe, names: tuple[str, ...]) -> Recipe:
    """Take the class names that a file has, where the recipe only numbers its classes."""
    numbered = recipe.classes == coco_classes(len(recipe.classes))[0] and len(recipe.classes) not in COCO_COUNTS
    if not numbered or len(names) != len(recipe.classes):
        return recipe
    return structs.replace(recipe, classes=tuple(map(printable, names)))
