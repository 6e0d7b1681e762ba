"""Kernels take addresses of what their caller holds, never of an array of their own, which Numba frees too early."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "maskrcnn"
ADDRESSES = {"ctypes", "data_ptr", "__array_interface__", "from_buffer"}
"""Attributes from which an address comes."""
APART = {"ops/threads.py", "allocator.py", "bench/case.py", "data/annotations/places.py"}
"""Modules that call functions of C libraries, tell storages apart or find one in another, and read no memory there."""


def takes_address(node: ast.AST) -> bool:
    is_named = isinstance(node, ast.Constant) and node.value in ADDRESSES  # getattr(array, "ctypes")
    return is_named or (isinstance(node, ast.Attribute) and node.attr in ADDRESSES)


def names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def faults(source: str) -> Iterator[str]:
    """Sentences on addresses that may outlive their array.

    An address is taken of an argument alone, by its bare name, since indexing may copy, and neither handed back to the
    caller nor put where it stays.
    """
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {child for function in functions for child in ast.walk(function)}
    for node in ast.walk(tree):
        if takes_address(node) and node not in inside:
            yield f"line {node.lineno}: outside a function"
    for function in functions:
        nodes = list(ast.walk(function))
        stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        given = {argument.arg for argument in function.args.args} - stored
        for node in nodes:
            if takes_address(node) and not (isinstance(node, ast.Attribute) and names(node) <= given and is_bare(node)):
                yield f"line {node.lineno}: {ast.unparse(node)} is no argument of {function.name}"
        held = set[str]()

        def is_address(node: ast.AST, held: set[str] = held) -> bool:
            return bool(names(node) & held) or any(map(takes_address, ast.walk(node)))

        assignments = [node for node in nodes if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)]
        for _ in assignments:  # as often as a name may be handed on
            for node in assignments:
                if node.value is not None and is_address(node.value):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    held |= {
                        name for target in targets for name in names(target) if not isinstance(target, ast.Subscript)
                    }
        for node in nodes:
            if isinstance(node, ast.Return) and node.value is not None and is_address(node.value):
                yield f"line {node.lineno}: {function.name} returns an address"
            if isinstance(node, ast.Assign) and is_address(node.value):
                kept = [target for target in node.targets if isinstance(target, ast.Subscript | ast.Attribute)]
                yield from (f"line {node.lineno}: {ast.unparse(target)} keeps an address" for target in kept)


def is_bare(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name)


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
        "use(given[given > 0].ctypes.data)",
        "use(given[[1, 2]].ctypes.data)",
        "at = given.ctypes.data\n    later = at + 4\n    return later",
        "given[0] = other.ctypes.data",
        "at = other.ctypes.data\n    given[0] = at",
        "own = np.empty(3)\n    use(ffi.from_buffer(own))",
        "own = np.empty(3)\n    use(getattr(own, 'ctypes').data)",
    ],
)
def test_what_may_outlive_its_array_is_found(body):
    assert list(faults(f"def kernel(given, other):\n    {body}\n")) != []


def test_addresses_of_arguments_are_fine():
    body = "at = given.ctypes.data + 4 * n\n    further = at + 4\n    use(further, given.ctypes.data)"
    assert list(faults(f"def kernel(given, n):\n    {body}\n")) == []
