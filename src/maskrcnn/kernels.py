"""Numba kernels: compiled once on a machine, and kept in the cache folder.

Numba's own cache stops with an error where it can write neither beside the source nor to the home, runs whatever it
reads, and does not notice a change in a file that a kernel's own file imports. This one keeps each kernel under a
digest of everything that it is made of, checks each file before it is used, and does without where nothing can be kept.
"""

import hashlib
import os
import pickle
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import llvmlite.binding
import numba
from numba.core import caching, compiler, config, serialize

from maskrcnn.files import atomic_write, cache_folder, reason_of
from maskrcnn.terminal import bare

Function = TypeVar("Function", bound=Callable[..., Any])

WIDTH_VARIABLE = "MASKRCNN_VECTOR_WIDTH"
WIDTHS = (8, 16)
"""Lengths of vectors that the kernels on addresses are written for, in float32 numbers."""
announced = Event()
"""Whether somebody has said that kernels are being compiled."""
DIGEST = 32
"""Bytes of SHA-256 before the content of a file."""
IMPORT = re.compile(r"^from (maskrcnn[\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)


def vector_width() -> int:
    """Numbers of a vector: 16 on a CPU with AVX-512, else 8, or what `MASKRCNN_VECTOR_WIDTH` says.

    Both work on every CPU: LLVM splits what one lacks. Raises ValueError for other widths.
    """
    setting = os.environ.get(WIDTH_VARIABLE)
    if not setting:
        return max(WIDTHS) if llvmlite.binding.get_host_cpu_features().get("avx512f") else min(WIDTHS)
    if setting not in map(str, WIDTHS):
        raise ValueError(f"{WIDTH_VARIABLE}: expected 8 or 16, received {setting!r}")
    return int(setting)


VECTOR_WIDTH = vector_width()
"""Numbers of a vector in this process."""


def kernel(**options: Any) -> Callable[[Function], Any]:
    """Decorate a function that Numba compiles at its first call with arguments of some types; it releases the GIL.

    options   as of `numba.njit`
    """

    def decorate(function: Function) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        dispatcher._cache = KernelCache(function)
        return dispatcher

    return decorate


class KernelCache(caching._Cache):
    """One kernel's compiled forms, a file for each combination of argument types."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @property
    def cache_path(self) -> str:
        return str(next(iter(folders()), ""))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Read a compiled form; None where there is none, or none that can be used."""
        target_context.refresh()
        for content in kept(self._name(sig, target_context.codegen())):
            try:
                parts = pickle.loads(content)  # which Numba needs: docs/decisions/0022-kernels-in-the-cache.md
                return compiler.CompileResult._rebuild(target_context, *parts)
            except Exception as error:  # whatever it is, it can be compiled anew
                say_once(f"compiled kernels cannot be used ({error}); they are compiled anew")
        announce()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled form in the first folder that takes it."""
        content = serialize.dumps(data._reduce())
        keep(self._name(sig, data.codegen), content)

    def enable(self) -> None:
        """Do nothing: this cache is always on."""

    disable = flush = enable

    @cached_property
    def _origin(self) -> str:
        return f"{self._function.__module__.removeprefix('maskrcnn.')}.{self._function.__qualname__}"

    def _name(self, sig: Any, codegen: Any) -> str:
        return f"{self._origin}-{digest(self._function.__module__, sig, codegen.magic_tuple())}"


def digest(module: str, *details: object) -> str:
    """A name for what was compiled from a module: its source, the compiler, the CPU, and the details."""
    versions = numba.__version__, llvmlite.__version__, sys.version_info[:2]
    settings = VECTOR_WIDTH, *(getattr(config, name) for name in ("OPT", "BOUNDSCHECK", "DEBUG", "CPU_NAME"))
    made_of = source_digest(module), details, versions, settings, llvmlite.binding.get_host_cpu_name()
    return hashlib.sha256(repr(made_of).encode()).hexdigest()[:DIGEST]


@cache
def source_digest(module: str) -> str:
    """The digest of a module's source, and of all that it imports from this package, directly or not."""
    reached, waiting = set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _imports(_source(name))
    return hashlib.sha256("".join(map(_source, sorted(reached))).encode()).hexdigest()


@cache
def _source(module: str) -> str:
    spec = find_spec(module)
    source: str | None = spec.loader.get_source(module) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]
    return source or ""  # where only bytecode was installed


def _imports(source: str) -> Iterator[str]:
    """Modules of this package that a source imports, which are loaded therefore."""
    for package, names in IMPORT.findall(source):
        yield package
        for name in re.findall(r"\w+", names):
            if f"{package}.{name}" in sys.modules:
                yield f"{package}.{name}"


def folders() -> list[Path]:
    """Where kernels are looked for: in the cache folder, then in a temporary one of this user."""
    return [folder for folder in (_usual_folder(), _temporary_folder()) if folder is not None and _is_ours(folder)]


def _usual_folder() -> Path | None:
    try:
        return cache_folder() / "kernels"
    except RuntimeError:  # a user without a home
        return None


def _temporary_folder() -> Path | None:
    try:
        folder = Path(tempfile.gettempdir()) / f"maskrcnn-kernels-{os.getuid()}"
    except (OSError, AttributeError):  # no folder is writable; Windows has no such users
        return None
    return None if folder.is_symlink() else folder  # to where somebody else may put what is run


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can put a file there, which would be run."""
    try:
        state = folder.stat()
    except OSError:
        return False
    return os.name == "nt" or (state.st_uid in (0, os.getuid()) and not state.st_mode & 0o022)


def kept(name: str) -> Iterator[bytes]:
    """The contents of the files of a name that `keep` wrote, without those that cannot be read or were damaged."""
    for folder in folders():
        try:
            content = (folder / name).read_bytes()
        except OSError:
            continue
        if content[:DIGEST] == hashlib.sha256(content[DIGEST:]).digest():
            yield content[DIGEST:]
        else:
            say_once(f"a compiled kernel in {folder} is damaged; it is compiled anew")


def keep(name: str, content: bytes) -> bool:
    """Write a file in the first folder that takes it; say so, once, where that is not the usual one.

    Returns whether there was such a folder.
    """
    reasons = [] if _usual_folder() is not None else ["the cache folder of a user without a home"]
    for folder in (_usual_folder(), _temporary_folder()):
        if folder is None:
            continue
        try:
            _write(folder, name, content)
        except OSError as error:
            reasons.append(f"{folder} ({reason_of(error)})")
            continue
        if reasons:
            say_once(f"compiled kernels cannot be kept in {reasons[0]} and are kept in {folder}; {REMEDY}")
        return True
    say_once(f"compiled kernels cannot be kept in {' or '.join(reasons)}: each process compiles them; {REMEDY}")
    return False


REMEDY = "MASKRCNN_CACHE names another folder"
"""What helps where kernels cannot be kept."""


def _write(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(0, "not this user's alone")
    with atomic_write(folder / name) as draft:
        draft.write_bytes(hashlib.sha256(content).digest() + content)


LOCAL_RANKS = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
"""Variables of launchers with a process's number on its machine, the innermost launcher first."""


def announce() -> None:
    """Say on stderr, once in a process and in one process of a machine, why nothing seems to happen."""
    first = next((os.environ[name] for name in LOCAL_RANKS if name in os.environ), "0") == "0"
    if first and not announced.is_set():
        tell("compiling kernels for this machine: some seconds\n")
    announced.set()


def tell(text: str) -> None:
    """Write to stderr, if there is one that takes it."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # a full disk, a reader that went away, a closed file
            print(text, end="", file=bare(sys.stderr), flush=True)


@cache
def say_once(sentence: str) -> None:
    """Warn, once in a process."""
    warnings.warn(sentence, stacklevel=2)
