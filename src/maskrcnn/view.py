"""`View`: what a network sees of an image. An affine map, with an inverse, that pixels, targets and results share.

A window is cut out of the image, scaled, turned, then mirrored. Points are (x, y) in continuous pixels; the window
lies in the frame of the original image, that of its annotations. Where there are angles, the image is turned about the
window's centre before.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Flags = Bool[Tensor, " B"]


class View(NamedTuple):
    """What is seen of each image of a batch."""

    windows: Float[Tensor, "B 4"]
    """xyxy, of positive width and height; what of them lies outside the image is padding."""
    sizes: Int[Tensor, "B 2"]
    """(height, width) of the result, turned as it is."""
    mirrored: Bool[Tensor, " B"]
    """Left to right, after the turn."""
    turns: Int[Tensor, " B"] | None = None
    """Quarter turns, 0 to 3, counterclockwise as those of `np.rot90`; None where no image is turned."""
    angles: Float[Tensor, " B"] | None = None
    """Degrees, counterclockwise, by which the image is turned about its window's centre; None where none is."""

    @classmethod
    def whole(
        cls, originals: Int[Tensor, "B 2"], sizes: Int[Tensor, "B 2"], mirrored: Bool[Tensor, " B"] | None = None
    ) -> "View":
        """The views of whole images of these (height, width), resized to `sizes`."""
        corners = originals.flip(1).float()
        none = torch.zeros(len(originals), dtype=torch.bool, device=originals.device)
        return cls(torch.cat([torch.zeros_like(corners), corners], 1), sizes, none if mirrored is None else mirrored)

    def take(self, index: slice | Int[Tensor, " n"]) -> "View":
        """The views of some of the images."""
        return View(*(None if column is None else column[index] for column in self))  # type: ignore[arg-type]

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "View":
        """The same on a device."""
        columns = (column if column is None else column.to(device, non_blocking=non_blocking) for column in self)
        return View(*columns)  # type: ignore[arg-type]

    def rescaled(self, originals: Int[Tensor, "B 2"], raw_sizes: Int[Tensor, "B 2"]) -> "View":
        """The same views in the frames of images that were reduced from `originals` to `raw_sizes`.

        In float64, by which a whole image's window stays one: exactly (0, 0, width, height).
        """
        before, after = (sizes.flip(1).repeat(1, 2).double() for sizes in (originals, raw_sizes))
        return self._replace(windows=(self.windows * after / before).float())


def axes(view: View) -> tuple[Flags, Flags, Flags]:
    """Whether rows and columns are exchanged, and which of the result's then run backwards: columns, rows."""
    if view.turns is None:
        none = torch.zeros_like(view.mirrored)
        return none, view.mirrored, none
    return view.turns % 2 == 1, (view.turns >= 2) ^ view.mirrored, (view.turns == 1) | (view.turns == 2)


def extents_of(view: View) -> Int[Tensor, "B 2"]:
    """(width, height) of each result before it is turned: how many pixels the window becomes along its own axes."""
    extents = view.sizes.flip(1)
    return extents if view.turns is None else torch.where((view.turns % 2 == 1)[:, None], view.sizes, extents)


def matrix(view: View, dtype: torch.dtype = torch.float32) -> Float[Tensor, "B 2 3"]:
    """The map (x, y, 1) -> (x, y) from each image to its result."""
    swapped, backwards, corners, sides, extents = _in_order_of_the_result(view, dtype)
    scales = torch.where(backwards, -extents, extents) / sides
    shifts = torch.where(backwards, extents, 0) - scales * corners
    upright = torch.cat([_swap(torch.diag_embed(scales), swapped[:, None], 2), shifts[..., None]], 2)
    return upright if view.angles is None else compose(upright, _about_centres(view, view.angles.to(dtype)))


def inverse(view: View, dtype: torch.dtype = torch.float32) -> Float[Tensor, "B 2 3"]:
    """The map (x, y, 1) -> (x, y) from each result to its image."""
    swapped, backwards, corners, sides, extents = _in_order_of_the_result(view, dtype)
    scales = torch.where(backwards, -sides, sides) / extents
    shifts = corners + torch.where(backwards, sides, 0)
    rows = torch.cat([torch.diag_embed(scales), shifts[..., None]], 2)
    upright = _swap(rows, swapped[:, None], 1)
    return upright if view.angles is None else compose(_about_centres(view, -view.angles.to(dtype)), upright)


def compose(second: Float[Tensor, "B 2 3"], first: Float[Tensor, "B 2 3"]) -> Float[Tensor, "B 2 3"]:
    """The map that applies `first`, then `second`."""
    linear, shift = first[:, :, :2], first[:, :, 2]
    columns = [(second[:, :, :2] * column[:, None]).sum(2) for column in (*linear.unbind(2), shift)]
    return torch.stack([*columns[:2], columns[2] + second[:, :, 2]], 2)


def cuts(view: View, originals: Int[Tensor, "B 2"]) -> Flags:
    """Whether each view leaves out some of its image, or turns it by an angle.

    originals  (height, width) of the images, in the frame of the windows
    What would be less than a pixel of the result does not count: rounded sizes show as much less than all.
    """
    corners, ends = view.windows.unflatten(1, (2, 2)).unbind(1)
    missing = torch.maximum(corners, originals.flip(1) - ends) * extents_of(view) / (ends - corners)
    left_out = (missing >= 1).any(1)
    return left_out if view.angles is None else left_out | (view.angles != 0)


def move_points(to: Float[Tensor, "B 2 3"], points: Float[Tensor, "B n 2"]) -> Float[Tensor, "B n 2"]:
    """Apply a map to the points (x, y) of each image.

    Term by term: a product of matrices would be rounded to fewer digits on some devices.
    """
    by_x, by_y, shift = to[:, None].unbind(3)
    return points[..., :1] * by_x + points[..., 1:] * by_y + shift


def move_boxes(to: Float[Tensor, "B 2 3"], boxes: Float[Tensor, "B n 4"]) -> Float[Tensor, "B n 4"]:
    """Apply a map to boxes, xyxy, whose sides stay upright."""
    corners = move_segments(to, boxes).unflatten(2, (2, 2))
    return torch.cat([corners.amin(2), corners.amax(2)], 2)


def surround_boxes(to: Float[Tensor, "B 2 3"], boxes: Float[Tensor, "B n 4"]) -> Float[Tensor, "B n 4"]:
    """The upright boxes around all four corners of boxes, xyxy, after any map."""
    others = move_boxes(to, boxes[..., [0, 3, 2, 1]])
    boxes = move_boxes(to, boxes)
    low, high = torch.minimum(boxes, others), torch.maximum(boxes, others)
    return torch.cat([low[..., :2], high[..., 2:]], 2)


def move_segments(to: Float[Tensor, "B 2 3"], segments: Float[Tensor, "B n 4"]) -> Float[Tensor, "B n 4"]:
    """Apply a map to both ends of directed segments (x1, y1, x2, y2)."""
    return torch.cat([move_points(to, segments[..., :2]), move_points(to, segments[..., 2:])], 2)


def _in_order_of_the_result(view: View, dtype: torch.dtype) -> tuple[Flags, Tensor, Tensor, Tensor, Tensor]:
    """Swapped; and for the result's x and y, (B, 2): whether it runs backwards, where the window begins, its length,
    and that of the result."""
    swapped, *backwards = axes(view)
    windows = view.windows.to(dtype)
    corners, sides = (_swap(part, swapped, 1) for part in (windows[:, :2], windows[:, 2:] - windows[:, :2]))
    return swapped, torch.stack(backwards, 1), corners, sides, view.sizes.flip(1).to(dtype)


def _about_centres(view: View, angles: Float[Tensor, " B"]) -> Float[Tensor, "B 2 3"]:
    """The map that turns each image about its window's centre, counterclockwise on the screen, where y points down."""
    cosines, sines = torch.cos(angles.deg2rad()), torch.sin(angles.deg2rad())
    turn = torch.stack([cosines, sines, -sines, cosines], 1).unflatten(1, (2, 2))
    centres = view.windows.unflatten(1, (2, 2)).mean(1).to(angles.dtype)
    return torch.cat([turn, (centres - (turn * centres[:, None]).sum(2))[..., None]], 2)


def _swap(values: Tensor, swapped: Tensor, axis: int) -> Tensor:
    """Reverse an axis of two where told."""
    return torch.where(swapped[..., None], values.flip(axis), values)
