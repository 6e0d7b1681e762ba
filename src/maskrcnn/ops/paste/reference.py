"""`paste` in plain PyTorch: the definition, on any device. Holds some D x height x width floats for a while.

The steps of the arithmetic, each rounded to float32, are the contract: other implementations follow them one by
one, so that they agree in every pixel.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad


def paste(
    probabilities: Float[Tensor, "D M M"], boxes: Float[Tensor, "D 4"], height: int, width: int, threshold: float
) -> Bool[Tensor, "D {height} {width}"]:
    """See `maskrcnn.ops.paste.paste`."""
    cells = probabilities.shape[2]
    x_cell, x_fraction, x_inside = _taps(boxes[:, 0], boxes[:, 2], width, cells)
    y_cell, y_fraction, y_inside = _taps(boxes[:, 1], boxes[:, 3], height, cells)
    columns = _between(pad(probabilities, (1, 1, 1, 1)), x_cell[:, None, :], x_fraction[:, None, :], dim=2)
    values = _between(columns, y_cell[:, :, None], y_fraction[:, :, None], dim=1)
    return (values >= threshold) & y_inside[:, :, None] & x_inside[:, None, :]


def _taps(
    low: Float[Tensor, " D"], high: Float[Tensor, " D"], size: int, cells: int
) -> tuple[Int[Tensor, "D {size}"], Float[Tensor, "D {size}"], Bool[Tensor, "D {size}"]]:
    """For each pixel: the nearer cell before its centre (in the padded grid), how far behind it, and if any is near."""
    sides = (high - low)[:, None]
    centres = torch.arange(size, dtype=low.dtype, device=low.device) + 0.5
    position = (centres - low[:, None]) * (sides.new_full((), cells) / sides) - 0.5
    inside = (sides > 0) & torch.isfinite(sides) & (position > -1) & (position < cells)
    position = torch.where(inside, position, 0.0)
    cell = torch.floor(position)
    return cell.long() + 1, position - cell, inside


def _between(
    grid: Float[Tensor, "D _ _"], cell: Int[Tensor, "D _ _"], fraction: Float[Tensor, "D _ _"], *, dim: int
) -> Float[Tensor, "D _ _"]:
    shape = list(grid.shape)
    shape[dim] = cell.shape[dim]
    before, after = (grid.gather(dim, index.expand(shape)) for index in (cell, cell + 1))
    return before + fraction * (after - before)
