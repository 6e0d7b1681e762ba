"""Grids that make `paste` interpolate logits instead of probabilities."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LIMIT = 16.0
"""Largest logit that counts: a float32 probability is 1 from 16.6 on."""
UNDECIDED = 1e-3
"""Least distance of the ring from zero: cells of exactly 0.5 do not reach beyond their box."""


def between_logits(
    probabilities: Float[Tensor, "D M M"], boxes: Float[Tensor, "D 4"]
) -> tuple[Float[Tensor, "D M+2 M+2"], Float[Tensor, "D 4"], float]:
    """(grids, boxes and threshold) with which `paste` draws what is nearer to 1 than to 0, bilinear between logits.

    A grid has a ring of cells around it, and its box has grown by them. There the logit of the outermost cells is
    mirrored: it is as far below zero as theirs is from it, so that an object which reaches the border of its grid ends
    at that of its box. All is raised by `LIMIT`, for beyond a grid `paste` has zeros.
    """
    cells = probabilities.shape[2]
    logits = probabilities.logit().clamp(-LIMIT, LIMIT)
    ring = -F.pad(logits[:, None], (1, 1, 1, 1), mode="replicate").squeeze(1).abs().clamp(min=UNDECIDED)
    ring[:, 1:-1, 1:-1] = logits
    cell = (boxes[:, 2:] - boxes[:, :2]) / cells
    return ring + LIMIT, torch.cat([boxes[:, :2] - cell, boxes[:, 2:] + cell], dim=1), LIMIT
