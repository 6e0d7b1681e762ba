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
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding
import numba
from numba.core import caching, compiler, config, serialize

from maskrcnn.files import cache_folder, written_whole

Function = TypeVar("Function", bound=Callable[..., Any])

WIDTH_VARIABLE = "MASKRCNN_VECTOR_WIDTH"
WIDTHS = (8, 16)
"""Lengths of vectors that the kernels on addresses are written for, in float32 numbers."""
DIGEST = 32
"""Bytes of SHA-256 before the content of a file."""
IMPORT = re.compile(r"^from (maskrcnn[\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)


def vector_width() -> int:
    """Numbers of a vector: 16 on a processor with AVX-512, else 8, or what `MASKRCNN_VECTOR_WIDTH` says.

    Both work on every processor: LLVM splits what one lacks. Raises ValueError for other widths.
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
        name = self._name(sig, target_context.codegen())
        for folder in folders():
            content = read(folder / name)
            if content is None:
                continue
            try:
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(content))
            except Exception as error:  # whatever it is, it can be compiled anew
                say_once(f"compiled kernels in {folder} cannot be used ({error}); they are compiled anew")
        announce()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled form in the first folder that takes it."""
        content = serialize.dumps(data._reduce())
        keep(self._name(sig, data.codegen), content)

    def enable(self) -> None:
        """Numba asks for it; it is never off."""

    disable = flush = enable

    @cached_property
    def _origin(self) -> str:
        return f"{self._function.__module__.removeprefix('maskrcnn.')}.{self._function.__qualname__}"

    def _name(self, sig: Any, codegen: Any) -> str:
        """Of a file: the kernel, and a digest of what makes its machine code what it is."""
        versions = numba.__version__, llvmlite.__version__, sys.version_info[:2]
        settings = VECTOR_WIDTH, *(getattr(config, name) for name in ("OPT", "BOUNDSCHECK", "DEBUG"))
        made_of = source_digest(self._function.__module__), repr(sig), codegen.magic_tuple(), versions, settings
        return f"{self._origin}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:DIGEST]}"


@cache
def source_digest(module: str) -> str:
    """The digest of a module's source, and of all that it imports from this package."""
    spec = find_spec(module)
    source = spec.loader.get_source(module) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]
    digest = hashlib.sha256((source or "").encode())
    for name in sorted(set(_imports(source or ""))):
        digest.update(source_digest(name).encode())
    return digest.hexdigest()


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
        return Path(tempfile.gettempdir()) / f"maskrcnn-kernels-{os.getuid()}"
    except (OSError, AttributeError):  # no place is writable; Windows has no such users
        return None


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can put a file there, which would be run."""
    try:
        place = folder.stat()
    except OSError:
        return False
    return os.name == "nt" or (place.st_uid in (0, os.getuid()) and not place.st_mode & 0o022)


def read(path: Path) -> bytes | None:
    """The content of a file that `keep` wrote; None where it is missing, cannot be read or was damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, content = content[:DIGEST], content[DIGEST:]
    if digest == hashlib.sha256(content).digest():
        return content
    say_once(f"a compiled kernel in {path.parent} is damaged; it is compiled anew")
    return None


def keep(name: str, content: bytes) -> None:
    """Write a file in the first folder that takes it; say so, once, where that is not the usual one."""
    reasons = []
    for folder in (_usual_folder(), _temporary_folder()):
        if folder is None:
            continue
        try:
            _write(folder, name, content)
        except OSError as error:
            reasons.append(f"{folder} ({error.strerror or error})")
            continue
        if reasons:
            say_once(f"compiled kernels cannot be kept in {reasons[0]} and are kept in {folder}; {REMEDY}")
        return
    say_once(f"compiled kernels cannot be kept in {' or '.join(reasons)}: each process compiles them; {REMEDY}")


REMEDY = "MASKRCNN_CACHE names another folder"


def _write(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(0, "others may write to it")
    with written_whole(folder / name) as draft:
        draft.write_bytes(hashlib.sha256(content).digest() + content)


@cache
def announce() -> None:
    """Say on stderr, once and in one process of a machine's, why nothing seems to happen."""
    if os.environ.get("LOCAL_RANK", os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", "0")) == "0":
        print("compiling kernels for this machine, once: some seconds", file=sys.stderr, flush=True)


@cache
def say_once(sentence: str) -> None:
    """Warn, once in a process."""
    warnings.warn(sentence, stacklevel=2)
