"""Who has which images of a step: processes, and the micro-batches of each."""

import itertools


def shares_of(batch: int, num_processes: int, micro_batch: int = 0) -> list[list[slice]]:
    """The micro-batches of each process: contiguous, as even as possible, in the order of the step.

    micro_batch   images of one, at most; 0 gives each process a single one
    Every process has the same number of micro-batches, none of them empty, so that all meet as often in layers that
    exchange moments. Raises ValueError, naming numbers that work, where that cannot be.

    >>> shares_of(5, 2, 2)
    [[slice(0, 1, None), slice(1, 2, None)], [slice(2, 3, None), slice(3, 5, None)]]
    """
    if batch < num_processes:
        raise ValueError(
            f"train.batch is {batch}, fewer images than the {num_processes} processes that share it; set it to "
            f"{num_processes}, or start at most {batch}"
        )
    fewest, most = batch // num_processes, -(-batch // num_processes)
    parts = -(-most // micro_batch) if micro_batch else 1
    if fewest < parts:
        raise ValueError(
            f"train.micro_batch is {micro_batch}, but of train.batch={batch} some of {num_processes} processes have "
            f"{fewest} and others {most} images, and each needs as many micro-batches; set train.micro_batch to "
            f"{micro_batch + 1}, or train.batch to {fewest * num_processes} or {most * num_processes}"
        )
    return [_cut(share, parts) for share in _cut(slice(0, batch), num_processes)]


def _cut(whole: slice, parts: int) -> list[slice]:
    number = whole.stop - whole.start
    ends = [whole.start + number * part // parts for part in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]
