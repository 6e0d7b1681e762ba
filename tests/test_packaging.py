"""The wheel: what `pip install` brings."""

import json
import subprocess
import sys
import tomllib
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


def test_the_requirements_of_the_doors_are_the_package_itself():
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["--editable ."]


def test_pip_takes_the_requirements_from_the_root(tmp_path):
    pytest.importorskip("hatchling", reason="hatchling builds the package; pip install -e '.[test]'")
    report = tmp_path / "report.json"
    options = ["--dry-run", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed", "--quiet"]
    words = [sys.executable, "-m", "pip", "install", *options, "--report", str(report), "-r", "requirements.txt"]
    subprocess.run(words, cwd=REPOSITORY, check=True)
    [installed] = json.loads(report.read_text())["install"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [one for one in installed["metadata"]["requires_dist"] if "extra ==" not in one]
    assert sorted(map(without_spaces, needed)) == sorted(map(without_spaces, project["dependencies"]))


def without_spaces(requirement: str) -> str:
    return "".join(requirement.split())
