"""Names of files in a run's folder are written down once."""

import ast
from pathlib import Path

from maskrcnn import run_folder

SOURCE = Path(__file__).parents[2] / "src" / "maskrcnn"
NAMES = {value for name, value in vars(run_folder).items() if name.isupper() and ("." in value or "/" in value)}


def test_no_other_module_spells_one():
    modules = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}
    spelt = {
        f"{name}, line {node.lineno}"
        for name, path in modules.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in NAMES
    }
    assert "model.safetensors" in NAMES
    assert {one for one in spelt if not one.startswith("run_folder.py")} == set()
