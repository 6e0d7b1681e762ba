"""The tensor groups that flow from disk to loss and from pixels to detections.

Every group is padded to a shape that depends on no value; `valid` says which slots are real. The groups
are named tuples of tensors, so that compilers, exporters and `tree_map` see plain tensors.

Axes: B images, C bands, G ground-truth objects, E edges, P proposals, R RoIs, D detections, M mask cells, H W pixels.
Boxes are xyxy in absolute, continuous pixels: the image is [0, W] x [0, H] and pixel (row i,
column j) is centred at (j + 0.5, i + 0.5). Sizes are (height, width).
"""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
BACKGROUND = 0  # labels run 1..K in the data set's order of category ids


class ImageBatch(NamedTuple):
    """Normalised images, padded with zeros at the right and bottom to one bucket."""

    pixels: Float[Tensor, "B C H W"]
    sizes: Float[Tensor, "B 2"]
    """(height, width) of each image before padding; boxes live in this frame."""


class Targets(NamedTuple):
    """Annotations in the frame of `ImageBatch.sizes`; an image without any has one slot that is not valid."""

    boxes: Float[Tensor, "B G 4"]
    labels: Int[Tensor, "B G"]
    crowd: Bool[Tensor, "B G"]
    """Crowd regions, which hold many objects: neither learnt nor counted as background."""
    valid: Bool[Tensor, "B G"]
    edges: Float[Tensor, "B E 4"]
    """Directed outline edges (x1, y1, x2, y2); inside is where the winding number is not zero."""
    first_edge: Int[Tensor, "B G+1"]
    """First edge of each object: object g owns edges[first_edge[g] : first_edge[g + 1]]."""
    hiding: Int[Tensor, "B 2"] | None = None
    """First edge of what is pasted over each image, and the one behind its last: together these outlines hide the
    objects whose edges stand before them. None where nothing is pasted."""


class MicroBatch(NamedTuple):
    """Images that go through the model together in training, with a random key for each."""

    images: ImageBatch
    targets: Targets
    keys: Int[Tensor, "B"]


class Proposals(NamedTuple):
    """Boxes the RPN offers, best first, without gradient."""

    boxes: Float[Tensor, "B P 4"]
    objectness: Float[Tensor, "B P"]
    valid: Bool[Tensor, "B P"]


class LearntMasks(NamedTuple):
    """Predicted masks of the positives in the loss, packed over the batch, and what they are compared with."""

    logits: Float[Tensor, "R M M"]
    boxes: Float[Tensor, "R 4"]
    images: Int[Tensor, "R"]
    rois: Int[Tensor, "R"]
    """Index of each among the boxes that were sampled on its image."""
    objects: Int[Tensor, "R"]
    weights: Float[Tensor, "R"]
    """Share of each in the loss: their sum is one, or zero without positives."""


class Detections(NamedTuple):
    """Final boxes, best first; `masks` are probabilities inside each box, for the box's own class."""

    boxes: Float[Tensor, "B D 4"]
    labels: Int[Tensor, "B D"]
    scores: Float[Tensor, "B D"]
    valid: Bool[Tensor, "B D"]
    masks: Float[Tensor, "B D M M"]
