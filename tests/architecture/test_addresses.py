"""Kernels take addresses of what their caller holds, never of an array of their own, which Numba frees too early."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "maskrcnn"
ADDRESSES = {"ctypes", "data_ptr", "__array_interface__"}
"""Attributes from which an address comes."""
APART = {"ops/threads.py", "allocator.py", "bench/case.py"}
"""Modules that call functions of C libraries, or tell storages apart, and read no memory at an address."""


def root(node: ast.expr) -> str | None:
    """The name at the beginning of `name[...].attribute[...]`: views share the memory of what they are made from."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def takes_address(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ADDRESSES


def faults(source: str) -> Iterator[str]:
    """Sentences on addresses that may outlive their array: of one the function made, or handed back to its caller."""
    tree = ast.parse(source)
    inside = {
        child for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for child in ast.walk(function)
    }
    yield from (
        f"line {node.lineno}: outside a function"
        for node in ast.walk(tree)
        if takes_address(node) and node not in inside
    )
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        given = {argument.arg for argument in function.args.args}
        changed = {
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        held = set()
        for node in ast.walk(function):
            if takes_address(node) and root(node) not in given - changed:
                yield f"line {node.lineno}: {ast.unparse(node)} is no argument of {function.name}"
            if isinstance(node, ast.Assign) and any(takes_address(part) for part in ast.walk(node.value)):
                held |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                parts = list(ast.walk(node.value))
                names = {part.id for part in parts if isinstance(part, ast.Name)}
                if names & held or any(takes_address(part) for part in parts):
                    yield f"line {node.lineno}: {function.name} returns an address"


def test_no_address_outlives_its_array():
    modules = {path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    found = {name: list(faults(text)) for name, text in modules.items() if name not in APART}
    assert {name: sentences for name, sentences in found.items() if sentences} == {}


@pytest.mark.parametrize(
    "body",
    [
        "own = np.empty(3)\n    use(own.ctypes.data)",
        "own = np.empty(3)\n    at = own.ctypes.data\n    use(at)",
        "given = np.empty(3)\n    use(given.ctypes.data)",
        "view = np.empty((3, 3))\n    use(view[1].ctypes.data)",
        "return given.ctypes.data",
        "at = given.ctypes.data + 4\n    return 1, at",
        "use(np.empty(3).ctypes.data)",
        "use(torch.empty(3).data_ptr())",
    ],
)
def test_what_may_outlive_its_array_is_found(body):
    assert list(faults(f"def kernel(given):\n    {body}\n")) != []


def test_addresses_of_arguments_and_of_their_parts_are_fine():
    assert (
        list(faults("def kernel(given, n):\n    at = given[n].ctypes.data\n    use(at + 4, given.ctypes.data)\n")) == []
    )
