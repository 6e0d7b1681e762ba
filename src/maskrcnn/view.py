"""`View`: what a network sees of an image. An affine map, with an inverse, that pixels, targets and results share.

A window is cut out of the image, scaled, turned, then mirrored. Points are (x, y) in continuous pixels; the window
lies in the frame of the original image, that of its annotations.
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


def matrix(view: View, dtype: torch.dtype = torch.float32) -> Float[Tensor, "B 2 3"]:
    """The map (x, y, 1) -> (x, y) from each image to its result."""
    swapped, backwards, corners, sides, extents = _in_order_of_the_result(view, dtype)
    scales = torch.where(backwards, -extents, extents) / sides
    shifts = torch.where(backwards, extents, 0) - scales * corners
    return torch.cat([_swap(torch.diag_embed(scales), swapped[:, None], 2), shifts[..., None]], 2)


def inverse(view: View, dtype: torch.dtype = torch.float32) -> Float[Tensor, "B 2 3"]:
    """The map (x, y, 1) -> (x, y) from each result to its image."""
    swapped, backwards, corners, sides, extents = _in_order_of_the_result(view, dtype)
    scales = torch.where(backwards, -sides, sides) / extents
    shifts = corners + torch.where(backwards, sides, 0)
    rows = torch.cat([torch.diag_embed(scales), shifts[..., None]], 2)
    return _swap(rows, swapped[:, None], 1)


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


def _swap(values: Tensor, swapped: Tensor, axis: int) -> Tensor:
    """Reverse an axis of two where told."""
    return torch.where(swapped[..., None], values.flip(axis), values)
