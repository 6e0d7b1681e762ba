"""How the Numba kernels share the CPU.

Kernels are serial and release the GIL; several calls run beside each other on the threads that torch's own operators
use. Threads besides these would wait for cores: torch's spin for some milliseconds after each operator, which made a
network in which its operators and ours alternate a sixth slower. Numba's own `prange` is not used: which threading
layer it finds depends on the machine, and the one that is always there (`workqueue`) aborts the process when two Python
threads enter it at once, as threaded prediction does.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import torch

PARTS_PER_THREAD = 4  # small enough that the last one to finish is not waited for long

_IMPORTED_BY = os.getpid()
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def parallel_for(work: Callable[[int, int], None], count: int, smallest: int = 1) -> None:
    """Call `work(first, last)` on consecutive parts of range(count), on as many threads as torch may use.

    smallest   items in a part: worth some tenths of a millisecond
    Parts wait in one queue, so that a thread that gets no core holds nothing up. What a part raises is raised here.
    """
    threads = torch.get_num_threads()
    parts = max(1, min(PARTS_PER_THREAD * threads if threads > 1 else 1, count // smallest))
    bounds = [count * part // parts for part in range(parts + 1)]
    waiting, errors = list(pairwise(bounds)), list[BaseException]()

    def drain() -> None:
        try:
            while waiting:
                try:
                    part = waiting.pop()
                except IndexError:  # another thread was faster
                    return
                work(*part)
        except BaseException as error:
            waiting.clear()
            errors.append(error)

    if parts == 1:
        drain()
    else:
        _run_on(min(threads, parts), drain)
    if errors:
        raise errors[0]


def _run_on(threads: int, work: Callable[[], None]) -> None:
    """Call it on this thread and on others, at most `threads` in all."""
    is_forked = os.getpid() != _IMPORTED_BY  # OpenMP's threads do not survive a fork, and waiting for them never ends
    parallel = None if is_forked else _openmp()
    if parallel is not None:
        parallel(_CALLBACK(lambda _: work()), None, threads, 0)
        return
    helpers = [_pool(os.getpid()).submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():
            helper.result()


@cache
def _openmp() -> Callable[..., None] | None:
    """What starts a parallel region in the OpenMP library that torch is linked with, if that is one on Linux.

    The entry point of GCC's libgomp, `GOMP_parallel(function, data, threads, flags)`; LLVM's library has it as well.
    """
    try:
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes, parallel.restype = (_CALLBACK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return parallel


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="maskrcnn-ops")
