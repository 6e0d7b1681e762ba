"""Batches on the device, made ready while the device is busy with the one before.

On a GPU everything from the copy to the last padded pixel runs on a stream of its own, beside the step.
"""

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

import torch
from torch.utils._pytree import tree_leaves

from maskrcnn.config import Data
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.augment.copy_paste import paste
from maskrcnn.data.augment.levels import resolve
from maskrcnn.data.augment.pixels import Normalising, distort, where_shown
from maskrcnn.data.transforms import RawBatch, prepare, resize_targets
from maskrcnn.runtime.devices import copies_in_order
from maskrcnn.structures import MicroBatch, Targets
from maskrcnn.view import cuts

T = TypeVar("T")


def feed(
    batches: Iterable[RawBatch], make: Callable[[RawBatch], T], device: torch.device
) -> Generator[tuple[RawBatch, T], None, None]:
    """Each batch, and what `make` makes of it: tensors on the device, or None, in any nesting of tuples.

    A GPU's host never runs more than one batch ahead of what the device has done with the last one but one: that bounds
    memory, and is far enough for the device never to wait.
    """
    if device.type != "cuda":
        yield from ((raw, make(raw)) for raw in batches)
        return
    side = torch.cuda.Stream(device)
    busy: torch.cuda.Event | None = None
    for raw in batches:
        with torch.cuda.stream(side):
            made = make(raw)
        stream = torch.cuda.current_stream(device)
        stream.wait_stream(side)
        for tensor in tree_leaves(made):
            if tensor is not None:
                tensor.record_stream(stream)
        yield raw, made
        before, busy = busy, stream.record_event()
        if before is not None:
            before.synchronize()


def micro_batch_maker(
    annotations: AnnotationStore, device: torch.device, settings: Data, *, one_shape: bool
) -> Callable[[RawBatch], MicroBatch]:
    """What makes a training batch of decoded images.

    one_shape   annotations of all batches are padded alike, so that only the bucket decides the shape of a step
    """
    whole = annotations.padding() if one_shape else None
    pieces = resolve(settings.augment, len(settings.mean))
    normalising = Normalising(*(torch.tensor(numbers, device=device) for numbers in (settings.mean, settings.std)))
    beside = copies_in_order(device)

    def make(raw: RawBatch) -> MicroBatch:
        images = prepare(raw, device, settings)
        found = annotations.gather(raw.indices, whole or annotations.padding(raw.indices.numpy()))
        targets = Targets(*(tensor.to(device, non_blocking=beside) for tensor in found if tensor is not None))
        view, keys = raw.view.to(device, non_blocking=beside), raw.keys.to(device, non_blocking=beside)
        if pieces.distorts:
            shown = where_shown(view, raw.original_sizes.to(device, non_blocking=beside), raw.bucket)
            images = distort(images, shown, keys, pieces, normalising)
        is_cut = cuts(raw.view, raw.original_sizes)  # asked where the view lies on the host: nothing waits
        cut = is_cut.to(device, non_blocking=beside) if is_cut.any() else None
        batch = MicroBatch(images, resize_targets(targets, view, cut), keys)
        return paste(batch, pieces.copy_paste, pieces.blend) if pieces.copy_paste else batch

    return make
