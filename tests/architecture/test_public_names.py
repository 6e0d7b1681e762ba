"""What other people's code may name. A change here is a change for them."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import maskrcnn
from maskrcnn import ops
from maskrcnn.predict import Predictor

REPOSITORY = Path(__file__).parents[2]
SURFACE = """
Instances.boxes
Instances.category_ids
Instances.draw(image)
Instances.empty(size)
Instances.filter(score)
Instances.image
Instances.inclusive
Instances.labels
Instances.logits
Instances.masks
Instances.names
Instances.polygons
Instances.probabilities
Instances.rle
Instances.runs
Instances.save(path)
Instances.scores
Instances.shown_bands
Instances.size
Instances.to_coco(image_id, category_ids)
Instances.to_supervision()
Predictor.category_ids
Predictor.choice
Predictor.choose(classes)
Predictor.classes
Predictor.cut(tile, overlap)
Predictor.device
Predictor.execution
Predictor.look(*, scales, flip)
Predictor.model
Predictor.precision
Predictor.predict(images, score)
Predictor.predict_levels(images, score)
Predictor.recipe
Predictor.rungs
load(path, *, device, precision)
"""
OPERATORS = """
conv1x1(x, weight, bias, residual, *, stride, relu)
conv3x3(x, weight, bias, *, stride, relu)
depthwise(x, weight, bias, *, stride, before, after, ceiling)
group_norm(x, weight, bias, *, groups, eps, relu)
inclusive_boxes(boxes, *, cells)
match(candidates, boxes, real, crowd, *, positive_iou, negative_iou, keep_best)
nms(boxes, groups, valid, *, threshold, num_keep)
paste(probabilities, boxes, *, height, width, threshold)
paste_outlines(probabilities, boxes, *, height, width, threshold)
paste_rle(probabilities, boxes, *, height, width, threshold)
rasterize(edges, first_edge, boxes, images, objects, *, size)
resize(images, raw_sizes, view, *, bucket, mean, std, antialias, area, whole_levels, fixed_point, black_padding)
roi_align(pyramid, boxes, images, *, strides, output_size, samples, half_pixel, canonical_size, canonical_level)
roi_levels(boxes, strides, canonical_size, canonical_level)
"""


def modules() -> list[str]:
    found = pkgutil.walk_packages(maskrcnn.__path__, "maskrcnn.")
    return ["maskrcnn", *sorted(module.name for module in found if module.name != "maskrcnn.__main__")]


def call(name: str, function) -> str:
    """A function as it is called: its parameters without types and defaults."""
    words, named = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            words.append("*")
            named = True
        words.append(parameter.name)
    return f"{name}({', '.join(word for word in words if word != 'self')})"


def members(kind: type) -> set[str]:
    """The public fields, properties and methods of a class."""
    names = {name for name in (*vars(kind), *kind.__annotations__) if not name.startswith("_")}
    values = {name: getattr(kind, name, None) for name in names}
    return {
        call(f"{kind.__name__}.{name}", value) if callable(value) else f"{kind.__name__}.{name}"
        for name, value in values.items()
    }


def test_the_package_offers_three_names_that_all_exist():
    assert sorted(maskrcnn.__all__) == ["Instances", "__version__", "load"]
    assert set(maskrcnn.__all__) <= set(dir(maskrcnn))
    assert all(getattr(maskrcnn, name) for name in maskrcnn.__all__)


def test_a_name_it_does_not_offer_is_refused_with_those_it_does():
    with pytest.raises(AttributeError, match="no attribute 'lode'; it offers Instances, __version__, load"):
        _ = maskrcnn.lode


def test_what_python_users_call_is_this():
    found = {call("load", maskrcnn.load)} | members(maskrcnn.Instances) | members(Predictor)
    assert "\n".join(sorted(found)) == SURFACE.strip()


def test_the_operators_are_these():
    packages = [module.name for module in pkgutil.iter_modules(ops.__path__) if module.ispkg]
    found = []
    for name in packages:
        package = importlib.import_module(f"maskrcnn.ops.{name}")
        public = {key: value for key, value in vars(package).items() if inspect.isfunction(value) and key[0] != "_"}
        found += [call(key, value) for key, value in public.items() if value.__module__.startswith(package.__name__)]
    assert "\n".join(sorted(found)) == OPERATORS.strip()


@pytest.mark.parametrize("name", modules())
def test_a_module_has_every_name_it_lists(name):
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert [one for one in listed if not hasattr(module, one)] == []
    assert len(set(listed)) == len(listed)


def answers_without(heavy: set[str], code: str) -> None:
    code += f"\nimport sys\nsys.exit(' '.join(sorted({heavy!r} & set(sys.modules))) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_package_or_reading_a_recipe_does_not_wait_for_torch():
    answers_without({"torch", "numpy", "numba"}, "from maskrcnn.recipes import read_recipe; read_recipe('demo')")


def test_help_of_every_command_and_door_does_not_wait_for_torch():
    answers_without(
        {"torch", "numpy", "numba", "yaml"},
        """
import runpy, sys
from typer.main import get_command
from maskrcnn.cli import main
from maskrcnn.cli.app import app

def ask(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except SystemExit as end:
        assert not end.code, (arguments, end.code)

def walk(command, words):
    ask(main, [*words, "--help"])
    for name, inner in getattr(command, "commands", {}).items():
        walk(inner, [*words, name])

walk(get_command(app), [])
for door in ("train.py", "eval.py", "infer.py"):
    sys.argv = [door, "--help"]
    ask(runpy.run_path, door, run_name="__main__")
""",
    )
