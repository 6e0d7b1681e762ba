"""Imports point one way, and never in a circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "maskrcnn"
FOUNDATION = {"config", "keys", "structures", "boxes", "masks", "kernels", "markdown", "sentences", "view"}
FOUNDATION |= {"picture", "overview", "terminal"}
RUN = FOUNDATION | {"ops", "models", "data", "recipes", "weights", "files", "job", "storage", "run_folder", "runtime"}
RUN |= {"checksums", "history"}
MAY_SEE = {
    "config": set(),
    "structures": set(),
    "boxes": set(),
    "view": set(),
    "picture": {"files"},
    "keys": set(),
    "masks": {"kernels"},
    "kernels": {"files", "terminal"},
    "fonts": {"sentences"},
    "draw": {"fonts"},
    "sentences": set(),
    "markdown": set(),
    "terminal": {"sentences"},
    "status_line": {"sentences", "terminal"},
    "files": {"sentences"},
    "checksums": {"files", "run_folder"},
    "storage": {"files", "run_folder", "sentences", "status_line"},
    "history": {"sentences"},
    "job": set(),
    "run_folder": set(),
    "recipes": {"config", "job", "markdown", "run_folder", "sentences", "storage.location", "checksums", "files"},
    "ops": FOUNDATION,
    "models": FOUNDATION | {"ops"},
    "data": FOUNDATION | {"ops", "files", "storage", "run_folder", "runtime.allocator", "runtime.devices"},
    "instances": FOUNDATION | {"ops", "draw"},
    "overview": set(),
    "joining": {"instances", "masks"},
    "weights": {"checksums", "config", "recipes", "files", "storage", "run_folder", "sentences"},
    "runtime": FOUNDATION | {"ops", "models", "files"},
    "ways": FOUNDATION | {"models", "data", "runtime.devices"},
    "evaluate": RUN | {"instances", "ways", "joining"},
    "report": RUN | {"evaluate", "draw", "fonts", "instances"},
    "train": RUN | {"evaluate", "report", "convert.backbone"},
    "predict": RUN | {"instances", "ways", "joining", "draw", "fonts", "convert"},
    "predict_files": RUN | {"instances", "predict", "fonts"},
    "prediction_rows": set(),
    "predict_shards": RUN | {"instances", "predict", "predict_files", "prediction_rows", "fonts"},
    "proposals": RUN | {"instances", "predict", "predict_files"},
    "convert": FOUNDATION | {"models", "recipes", "weights", "files", "storage", "run_folder"},
    "bench": RUN | {"instances", "train", "evaluate", "convert.framework", "convert.torchvision"},
    "cli": RUN
    | {"bench", "draw", "fonts", "train", "evaluate", "report", "predict", "predict_files", "proposals", "convert"}
    | {"status_line", "predict_shards", "prediction_rows"},
    "__main__": {"cli"},
}
"""Part -> the parts (or single modules) that it may import. The package itself offers `load` and may see all."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports(module: str) -> Iterator[str]:
    """Modules of the package that a module names in any import statement, at its top or inside a function."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: relative imports hide where an arrow points"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            inside = name.removeprefix("maskrcnn.")
            if inside != name:
                yield inside if inside in MODULES else inside.rpartition(".")[0]


def seen_from(part: str) -> set[tuple[str, str]]:
    """(importing module, imported module) for arrows that leave a part of the package."""
    own = [module for module in MODULES if module.partition(".")[0] == part]
    return {(module, seen) for module in own for seen in imports(module) if seen and seen.partition(".")[0] != part}


@pytest.mark.parametrize("part", sorted({module.partition(".")[0] for module in MODULES} - {""}))
def test_each_part_sees_only_what_lies_below_it(part):
    assert part in MAY_SEE, f"say here what {part} may import"
    turned = [
        f"{module} -> {seen}"
        for module, seen in sorted(seen_from(part))
        if seen not in MAY_SEE[part] and seen.partition(".")[0] not in MAY_SEE[part]
    ]
    assert turned == []


def test_no_import_leads_back_to_where_it_began():
    graph = {module: set(imports(module)) - {module, ""} for module in MODULES if module}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)  # raises CycleError, naming the circle


def test_imports_inside_functions_count_too():
    assert ("cli.train", "train.loop") in seen_from("cli")
