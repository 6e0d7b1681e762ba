"""The wheel: what `pip install` brings."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; pip install -e '.[test]'")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(REPOSITORY)], check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_every_recipe_the_page_and_the_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    recipes = {path.relative_to(REPOSITORY / "config").as_posix() for path in (REPOSITORY / "config").rglob("*.yml")}
    assert {name.removeprefix("maskrcnn/_recipes/") for name in names if "/_recipes/" in name} == recipes
    assert "maskrcnn/report/page.html.jinja" in names
    assert "maskrcnn/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_recipes_of_a_wheel_are_found_by_name(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "from maskrcnn.recipes import read_recipe, recipe_folder; print(recipe_folder(), read_recipe('demo').name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "maskrcnn" / "_recipes"), "demo"]
