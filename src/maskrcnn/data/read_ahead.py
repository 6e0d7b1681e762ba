"""Images of a store, read by threads of their own before the ones that decode them ask."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from maskrcnn.data.buckets import Step
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import read_image

Contents = list[Future[bytes]]
"""Files of a step's images, as they arrive."""


def read_ahead(
    steps: Iterator[Step], data: Dataset, most: int, pool: ThreadPoolExecutor
) -> Iterator[tuple[Step, Contents]]:
    """Yield steps with their images, while those of the next steps are being read.

    most   images that are asked for beyond the step that is yielded
    """
    waiting: deque[tuple[Step, Contents]] = deque()
    under_way = 0
    for step in steps:
        names = (data.file_names[index] for index in step.indices)
        waiting.append((step, [pool.submit(read_image, data.images / name) for name in names]))
        under_way += len(step.indices)
        while under_way > most + len(waiting[0][1]):
            under_way -= len(waiting[0][1])
            yield waiting.popleft()
    yield from waiting
