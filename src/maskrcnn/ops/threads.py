"""How the Numba kernels share the processor.

Kernels are serial and release the GIL; threads are plain Python threads. Numba's own `prange` is not used: which
threading layer it finds depends on the machine, the one that is always there (`workqueue`) aborts the process when two
Python threads enter it at once, as threaded prediction does, and the OpenMP one brings a second set of workers that
keeps cores busy while torch wants them.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import torch

PARTS_PER_THREAD = 4  # small enough that the last one to finish is not waited for long


def in_parts(work: Callable[[int, int], None], count: int, smallest: int = 1) -> None:
    """Call `work(first, last)` on consecutive parts of range(count), on as many threads as torch may use.

    smallest   items in a part: worth a millisecond or two, as waking a thread behind a busy core can cost that

    Parts wait in one queue and the caller works too: torch's own threads spin for some milliseconds after an operation,
    and a helper that gets no core behind them must hold nothing up (18 ms instead of 3 ms with one fixed part each).
    """
    threads = torch.get_num_threads()
    parts = max(1, min(PARTS_PER_THREAD * threads if threads > 1 else 1, count // smallest))
    bounds = [count * part // parts for part in range(parts + 1)]
    waiting = list(pairwise(bounds))

    def drain() -> None:
        while waiting:
            try:
                part = waiting.pop()
            except IndexError:  # another thread was faster
                return
            work(*part)

    helpers = [_pool(os.getpid()).submit(drain) for _ in range(min(threads, parts) - 1)]
    drain()
    for helper in helpers:
        if not helper.cancel():
            helper.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:  # one for each process: threads do not survive a fork
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="maskrcnn-ops")
