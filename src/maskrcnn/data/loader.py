"""Batches of decoded images, made ahead of time by threads.

Threads rather than processes: decoders and kernels release the interpreter's lock, the data set is shared
for nothing, and there is no fork to hang.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.utils._pytree import tree_map_only

from maskrcnn.config import Data
from maskrcnn.data.augment.jpeg import compress, has_jpeg
from maskrcnn.data.buckets import Step
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import decode_bytes, read_image
from maskrcnn.data.levels import Levels, Pixels, levels_of
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.parts import PartReader
from maskrcnn.data.read_ahead import Contents, read_ahead
from maskrcnn.data.sharing import shares_of
from maskrcnn.data.transforms import RawBatch

BLANK = 64
"""Longest side of what stands for an image that cannot be read, in pixels before it is resized."""


class Loader:
    """Iterates the micro-batches of one process, in order, while threads prepare the next ones.

    steps          global batches; may be an endless iterable of several epochs
    rank           takes the rank-th of `world_size` slices of each step, which are as even as possible
    micro_batch    images of each `RawBatch`, at most; 0 gives the slice whole
    start          steps to skip, without decoding them, when a run resumes
    oddities       are told what the images have
    skip           whether an image that cannot be read becomes a black one without objects
    At most num_workers x prefetch_size batches are under way or waiting. Images of a store are read by threads of their
    own, `read_ahead` images before the batches under way. What goes wrong in a thread is raised here, in
    place of its batch. Leaving the loop, by `break` or an exception, or closing the iterator ends the threads.
    """

    def __init__(
        self,
        data: Dataset,
        steps: Iterable[Step],
        settings: Data,
        *,
        rank: int = 0,
        world_size: int = 1,
        micro_batch: int = 0,
        start: int = 0,
        pin_memory: bool = False,
        oddities: Oddities | None = None,
        skip: bool = False,
    ) -> None:
        self.data, self.steps, self.settings = data, steps, settings
        self.rank, self.world_size, self.micro_batch = rank, world_size, micro_batch
        self.start, self.pin_memory = start, pin_memory
        self.oddities, self.skip = oddities or Oddities(), skip
        self._parts_of_images = PartReader()
        self.waited_seconds = 0.0
        """How long the consumer has waited for batches so far."""

    def __iter__(self) -> Generator[RawBatch, None, None]:
        if isinstance(self.data.images, Path):
            yield from self._made((part, None) for part in self._parts())
            return
        readers = ThreadPoolExecutor(self.settings.read_ahead, thread_name_prefix="reader")
        try:
            yield from self._made(read_ahead(self._parts(), self.data, self.settings.read_ahead, readers))
        finally:
            readers.shutdown(cancel_futures=True)

    def _made(self, parts: Iterator[tuple[Step, Contents | None]]) -> Iterator[RawBatch]:
        """Batches of some parts, in order, each timed as its consumer waits."""
        if self.settings.num_workers == 0:
            while True:
                begin = time.perf_counter()
                part = next(parts, None)
                if part is None:
                    return
                batch = self._make(part)
                self.waited_seconds += time.perf_counter() - begin
                yield batch
        pool = ThreadPoolExecutor(self.settings.num_workers, thread_name_prefix="loader")
        try:
            depth = self.settings.num_workers * self.settings.prefetch_size
            ahead = deque(pool.submit(self._make, part) for part in islice(parts, depth))
            while ahead:
                begin = time.perf_counter()
                batch = ahead.popleft().result()
                self.waited_seconds += time.perf_counter() - begin
                ahead.extend(pool.submit(self._make, part) for part in islice(parts, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def _parts(self) -> Iterator[Step]:
        for step in islice(self.steps, self.start, None):
            yield from micro_steps(step, self.rank, self.world_size, self.micro_batch)

    def _make(self, part: tuple[Step, Contents | None]) -> RawBatch:
        batch = make_batch(
            self.data, part[0], self.settings, part[1], self.oddities, self._parts_of_images, skip=self.skip
        )
        return pin(batch) if self.pin_memory else batch


def micro_steps(step: Step, rank: int, world_size: int, micro_batch: int) -> list[Step]:
    """One process's contiguous share of a step, cut to micro-batches (0: a single one), see `shares_of`."""
    return [step.take(part) for part in shares_of(len(step.indices), world_size, micro_batch)[rank]]


def make_batch(
    data: Dataset,
    step: Step,
    settings: Data,
    contents: Contents | None = None,
    oddities: Oddities | None = None,
    parts: PartReader | None = None,
    *,
    skip: bool = False,
) -> RawBatch:
    """Decode a step's images and collate them.

    contents   of their files, where they are being read already
    oddities   are told what the images have
    parts      reads images that are parts of their files, and remembers those that it had to decode whole
    skip       as of `Loader`
    """
    decoded, indices, unread, levels = [], step.indices.copy(), [], levels_of(settings)
    for number, index in enumerate(step.indices):
        try:
            content = None if contents is None else contents[number].result()
            decoded.append(_decode(data, int(index), settings, levels, content, oddities, parts))
        except (OSError, ValueError) as error:
            if not skip:
                raise
            unread.append((str(data.file_names[index]), str(error)))
            decoded.append(np.zeros((*np.minimum(data.sizes[index], BLANK), len(settings.mean)), np.uint8))
            indices[number] = len(data.image_ids)
    if step.qualities is not None:
        if oddities is not None:
            for index in (index for index, image in zip(step.indices, decoded, strict=True) if not has_jpeg(image)):
                oddities.add(data.images / data.file_names[index], has_jpeg=False)
        decoded = [compress(image, quality) for image, quality in zip(decoded, step.qualities.tolist(), strict=True)]
    images, raw_sizes = collate(decoded)
    return RawBatch(
        images=images,
        raw_sizes=raw_sizes,
        original_sizes=torch.from_numpy(data.sizes[step.indices]),
        view=step.view,
        keys=torch.from_numpy(step.keys),
        indices=torch.from_numpy(indices),
        image_ids=torch.from_numpy(data.image_ids[step.indices]),
        bucket=step.bucket,
        unread=tuple(unread),
    )


def _decode(
    data: Dataset,
    index: int,
    settings: Data,
    levels: Levels,
    content: bytes | None,
    oddities: Oddities | None,
    parts: PartReader | None,
) -> Pixels:
    """One image of a data set, or the part of its file that it is."""
    path, size = data.images / data.file_names[index], tuple(data.sizes[index].tolist())
    if data.parts is None or not isinstance(path, Path):
        content = read_image(path) if content is None else content
        return decode_bytes(content, path, size, settings.max_rowsize, levels=levels, oddities=oddities)
    part, whole = (tuple(column[index].tolist()) for column in data.parts)
    decode = partial(decode_bytes, max_rowsize=None, levels=levels, oddities=oddities)
    return (parts or PartReader()).read(path, part, whole, decode)


def collate(
    images: Sequence[Shaped[np.ndarray, "_ _ C"]],
) -> tuple[Shaped[Tensor, "B h w C"], Int[Tensor, "B 2"]]:
    """Images side by side, padded with zeros at the right and bottom, and their (height, width).

    Bytes where all of them have bytes, float32 otherwise.
    """
    raw_sizes = np.array([image.shape[:2] for image in images], np.int64)
    padded = np.zeros((len(images), *raw_sizes.max(axis=0), images[0].shape[2]), np.result_type(*images))
    for slot, image in zip(padded, images, strict=True):
        slot[: image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(padded), torch.from_numpy(raw_sizes)


def pin(batch: RawBatch) -> RawBatch:
    """A copy in page-locked memory, from which a GPU can fetch while it computes."""
    pinned: RawBatch = tree_map_only(Tensor, Tensor.pin_memory, batch)
    return pinned
