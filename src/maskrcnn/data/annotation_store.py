"""All annotations of a data set as tensors, from which a batch picks its own by number.

They are packed once, and stay on the device where there is room: a batch then costs no work on the CPU and no
copy, and its targets have whatever padding a recorded graph was made for.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from maskrcnn.data.dataset import Dataset
from maskrcnn.masks import edges_from_rings
from maskrcnn.runtime.devices import copies_in_order, memory_of
from maskrcnn.structures import Targets

MIN_OBJECTS, MIN_EDGES = 8, 64  # smallest padding, so that few shapes occur
MOST_OF_MEMORY = 0.1
"""Share of a GPU's free memory that annotations may take; beyond it they stay on the CPU."""


class Padding(NamedTuple):
    """To how many slots the annotations of each image are padded."""

    objects: int
    edges: int


class Columns(NamedTuple):
    """Objects in the order of their images, edges in the order of their objects."""

    boxes: Float[Tensor, "O 4"]
    labels: Int[Tensor, " O"]
    crowd: Bool[Tensor, " O"]
    edges: Float[Tensor, "E 4"]
    first_edge: Int[Tensor, " O+1"]
    """Object o owns edges[first_edge[o] : first_edge[o + 1]]; crowd regions own none, as nothing learns outlines."""
    first_object: Int[Tensor, " N+2"]
    """Image i owns objects first_object[i] : first_object[i + 1]; one past the last image owns none."""


class AnnotationStore:
    """The annotations of a data set, ready to be picked."""

    def __init__(self, data: Dataset, device: torch.device) -> None:
        columns = pack(data)
        self._objects, self._edges = counts_of_images(columns)
        self.columns = Columns(*(column.to(device_for(columns, device)) for column in columns))

    def padding(self, images: Int64[np.ndarray, " B"] | None = None) -> Padding:
        """Powers of two that hold the annotations of these images, or, with one shape for all batches, of any."""
        chosen = slice(None) if images is None else images
        return Padding(_padded(self._objects[chosen], MIN_OBJECTS), _padded(self._edges[chosen], MIN_EDGES))

    def gather(self, images: Int[Tensor, " B"], padding: Padding) -> Targets:
        """The targets of some images, by their index in the data set, where the annotations lie."""
        device = self.columns.boxes.device
        return gather(self.columns, images.to(device, non_blocking=copies_in_order(device)), padding)


def pack(data: Dataset) -> Columns:
    """What is learnt, on the CPU; at least one object and edge, so that indices point at something."""
    learnt, edges = data.learnt, edges_from_rings(data.rings)
    lengths = np.diff(data.rings.first[data.first_ring].astype(np.int64))  # a closed ring has as many edges as points
    with_outline = learnt & ~data.crowd
    first_learnt = np.concatenate([[0], np.cumsum(learnt)])
    return Columns(
        boxes=_not_empty(data.boxes[learnt]),
        labels=_not_empty(data.labels[learnt]),
        crowd=_not_empty(data.crowd[learnt]),
        edges=_not_empty(edges[np.repeat(with_outline, lengths)]),
        first_edge=torch.from_numpy(np.concatenate([[0], np.cumsum((lengths * with_outline)[learnt])])),
        first_object=torch.from_numpy(first_learnt[np.append(data.first_object, data.first_object[-1])]),
    )


def gather(columns: Columns, images: Int[Tensor, " B"], padding: Padding) -> Targets:
    """Targets in the frame of the original images, padded with zeros. Nothing waits for the device."""
    start, stop = columns.first_object[images][:, None], columns.first_object[images + 1][:, None]
    objects = start + torch.arange(padding.objects + 1, device=start.device)
    first_edge = columns.first_edge[objects.clamp(max=stop)]
    edges = first_edge[:, :1] + torch.arange(padding.edges, device=start.device)
    has_edge = (edges < first_edge[:, -1:])[..., None]
    objects = objects[:, :-1]
    valid = objects < stop
    objects = objects.clamp(max=len(columns.boxes) - 1)
    return Targets(
        boxes=columns.boxes[objects] * valid[..., None],
        labels=columns.labels[objects] * valid,
        crowd=columns.crowd[objects] & valid,
        valid=valid,
        edges=columns.edges[edges.clamp(max=len(columns.edges) - 1)] * has_edge,
        first_edge=first_edge - first_edge[:, :1],
    )


def counts_of_images(columns: Columns) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """Objects and edges of each image, and of the one past the last."""
    return (
        columns.first_object.diff().numpy(),
        columns.first_edge[columns.first_object].diff().numpy(),
    )


def device_for(columns: Columns, device: torch.device) -> torch.device:
    """The device, or the CPU where the columns would take more than `MOST_OF_MEMORY` of it or torch does not say."""
    if device.type == "cpu":
        return device
    needed = sum(column.numel() * column.element_size() for column in columns)
    memory = memory_of(device)
    return device if memory is not None and needed <= MOST_OF_MEMORY * memory[0] else torch.device("cpu")


def _not_empty(column: np.ndarray) -> Tensor:
    return torch.from_numpy(column if len(column) else np.zeros((1, *column.shape[1:]), column.dtype))


def _padded(counts: Int64[np.ndarray, " n"], least: int) -> int:
    most = int(counts.max(initial=0))
    return max(least, 1 << max(most - 1, 0).bit_length())
