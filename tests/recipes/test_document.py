"""docs/recipes.md: its tables are those of today's recipes and settings, its examples are true."""

import re
import shutil
from pathlib import Path

import pytest

from maskrcnn.cli import main
from maskrcnn.recipes import read_recipe
from maskrcnn.recipes.describe import all_settings
from maskrcnn.recipes.document import rewrite

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    return re.search(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_is_in_step_with_the_recipes_and_the_schema():
    assert rewrite(PAGE) == PAGE, f"out of date; run: {block('bash').strip()}"


def test_every_setting_is_listed_once_with_a_reason():
    rows = [re.split(r" \| ", line.strip("| ")) for line in PAGE.splitlines() if line.startswith("| `")]
    listed = [row[0].strip("`") for row in rows if len(row) == 5 and row[4]]
    assert sorted(listed) == sorted(all_settings())


def test_every_shipped_recipe_is_listed():
    config = REPOSITORY / "config"
    assert all(f"| `{path.relative_to(config).with_suffix('').as_posix()}` |" in PAGE for path in config.rglob("*.yml"))


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(ValueError, match=r"expected one <!-- settings --> and one <!-- /settings -->"):
        rewrite(PAGE.replace("<!-- /settings -->", ""))


def test_a_pipe_in_a_cell_does_not_end_it(place, monkeypatch):
    (place / "config" / "demo.yml").write_text("# one | two\nname: demo\n")
    monkeypatch.setattr("maskrcnn.recipes.document.recipe_folder", lambda: place / "config")
    assert r"| `demo` |  | one \| two |" in rewrite(PAGE)


def test_the_example_is_a_recipe(place):
    name = re.match(r"# (\S+)\n", block("yaml"))[1]
    (place / name).write_text(block("yaml"))
    recipe = read_recipe(name)
    assert (recipe.name, recipe.train.epochs, recipe.train.optimizer.lr) == ("mine", 20, 0.0005)
    assert recipe.model.backbone.kind == "resnet18"


def test_mistakes_are_told_in_these_words(place, capsys):
    (place / "mine.yml").write_text("train: {lr: 0.1}\n")
    with pytest.raises(SystemExit) as end:
        main(["train", "mine.yml", "data.flip=1.5"])
    assert (end.value.code, capsys.readouterr().err) == (2, block("text"))
