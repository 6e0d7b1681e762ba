"""Shared data, and shape checks: while tests run, every annotated function of the package checks its arguments."""

import functools
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import get_args

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch: a core for each worker; tests that want more set them
os.environ["OMP_WAIT_POLICY"] = "passive"  # and theirs leave the other worker its core while they wait

import torch
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, jaxtyped
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

REPOSITORY = Path(__file__).parents[1]
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read where a kernel is defined: they run on the CPU, step by step
CHECKS = 100
"""Calls of each function that are checked in a test: a third of a whole run's time would be checks otherwise."""
_checks: Counter[FunctionType] = Counter()
"""Those of the test that runs."""
_typed = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
_shaped = jaxtyped(typechecker=_typed)


def _has_shapes(annotation: object) -> bool:
    if isinstance(annotation, str) or (isinstance(annotation, type) and issubclass(annotation, AbstractArray)):
        return True  # a string may turn out to be anything
    return any(map(_has_shapes, get_args(annotation)))


def _checked(function: FunctionType) -> FunctionType:
    """Check types of every function, and axes that must agree, which takes many times as long, where some are named."""
    annotations = function.__annotations__.values()
    if not annotations:
        return function
    check = _shaped if any(map(_has_shapes, annotations)) else _typed
    typed = cache(lambda: check(function))  # written and compiled at the first call: most are never called

    @functools.wraps(function)
    def call(*args, **kwargs):
        if _checks[function] >= CHECKS or torch.compiler.is_compiling():  # a checker's own code cannot be traced
            return function(*args, **kwargs)
        _checks[function] += 1
        return typed()(*args, **kwargs)

    return call


def _check_module(module: ModuleType) -> None:
    """Wrap plain functions and methods of a complete module; Numba's and torch's own objects stay as they are."""
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isgeneratorfunction(
            getattr(value, "__wrapped__", None)
        ):  # a context manager: it promises another type
            continue
        if isinstance(value, FunctionType):
            setattr(module, name, _checked(value))
        elif inspect.isclass(value):
            for key, method in list(vars(value).items()):
                if isinstance(method, FunctionType) and method.__module__ == module.__name__ and method.__annotations__:
                    setattr(value, key, _checked(method))


class _CheckingFinder:
    def find_spec(self, name, path=None, target=None):
        if name != "maskrcnn" and not name.startswith("maskrcnn."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _check_module(module)

            spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _CheckingFinder())

from maskrcnn import kernels  # noqa: E402
from maskrcnn.files import cache_folder  # noqa: E402 -- with its shapes checked, as the rest
from maskrcnn.runtime.warm import all_tasks, warm  # noqa: E402

SECONDS = "maskrcnn/seconds"
"""Where pytest's cache keeps how long each test took, with what it had to set up, when it last ran."""
FAST = 0.25
"""Seconds of a test that `--fast` runs."""
_seconds: dict[str, float] = {}
LONG = (
    "tests/end_to_end/",
    "tests/architecture/test_readme.py",
    "tests/storage/test_whole_runs.py",
    "tests/benchmarks/",
)
"""Where tests are that learn or start programs. They come first: a worker that is done takes the last ones of another,
which are short then, and need nothing that took long to set up."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help=f"leave out tests that last took more than {FAST} s")
    parser.addoption("--store", action="store_true", help="write the stored numbers of tests/end_to_end/losses anew")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile what several workers would each compile."""
    if session.config.getoption("numprocesses", None):
        warm(all_tasks(), lambda sentence: None)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail for a test file that cannot be imported: the option that skips such modules is meant for the package's."""
    report = yield
    inside = collector.path.is_relative_to(REPOSITORY / "tests")
    if report.outcome == "skipped" and inside and "unable to import module" in str(report.longrepr):
        report.outcome, report.longrepr = "failed", f"{collector.path} cannot be imported"
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    if config.getoption("--fast"):
        known = config.cache.get(SECONDS, {})
        slow = [item for item in items if known.get(item.nodeid, 0.0) > FAST]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def pytest_runtest_setup() -> None:
    _checks.clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    # The workers' reports come to the process that started them; `-p no:cacheprovider` leaves nowhere to keep them.
    if not hasattr(session.config, "workerinput") and hasattr(session.config, "cache"):
        session.config.cache.set(SECONDS, session.config.cache.get(SECONDS, {}) | _seconds)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tests neither find nor leave anything in the user's cache but compiled kernels, which depend on nothing else.

    Nor do they find the temporary folder in which kernels are kept where that cache cannot be written.
    """
    with pytest.MonkeyPatch.context() as patch:
        _move_cache(tmp_path_factory.mktemp("cache"), patch)
        temporary = tmp_path_factory.mktemp("temporary")
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        patch.setattr(kernels, "tell", lambda text: None)  # which test compiles first depends on the others
        yield


@pytest.fixture
def new_cache(tmp_path, monkeypatch) -> Path:
    """A cache folder in which no other test left anything but compiled kernels."""
    folder = tmp_path / "cache"
    folder.mkdir()
    return _move_cache(folder, monkeypatch)


def _move_cache(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    compiled = cache_folder() / "kernels"
    with suppress(OSError):  # no home that can be written: then each session compiles
        compiled.mkdir(mode=0o755, parents=True, exist_ok=True)
        (folder / "kernels").symlink_to(compiled, target_is_directory=True)
    patch.setenv("MASKRCNN_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets beside the repository, or where $MASKRCNN_SHARED_DATA points."""
    folder = Path(os.environ.get("MASKRCNN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the shared data are not at {folder}; set MASKRCNN_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """Where Triton kernels are tested: a GPU, or the CPU, on which Triton's interpreter runs them."""
    pytest.importorskip("triton", reason="Triton is not installed")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Tape(TorchDispatchMode):
    """Records the operations of a function and repeats them on the same tensors: what a CUDA graph is, on a CPU.

    No line of Python runs in a replay, so numbers that a step takes from Python stay what they were, and what asks the
    device for a number is refused, as on a GPU. A recording leaves everything as it was.
    """

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal.default")

    def __init__(self):
        super().__init__()
        self.calls, self.changed, self.num_recorded = [], {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.WAITS):
            raise RuntimeError(f"{func} waits for the device")
        kwargs = kwargs or {}
        for parameter, value in zip(func._schema.arguments, args, strict=False):
            is_told = parameter.alias_info is not None and parameter.alias_info.is_write
            if is_told or (func is torch.ops.aten.native_batch_norm.default and parameter.name.startswith("running")):
                for tensor in tree_flatten(value)[0]:
                    self.changed.setdefault(tensor.data_ptr(), (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result

    def run(self, function):
        return function()

    def record(self, function):
        tape = Tape()
        self.num_recorded += 1
        with tape:
            results = function()
        with torch.no_grad():
            for tensor, before in tape.changed.values():
                tensor.copy_(before)
        return results, tape.replay

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_flatten(result)[0], tree_flatten(again)[0], strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def tape() -> Tape:
    """A recorder for `Captured` that needs no GPU."""
    return Tape()
