"""`Raster`: an image read in its own number type, with all of its bands, which Pillow would change or refuse."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from maskrcnn.data.header import Header


@dataclass(frozen=True, eq=False)
class Raster:
    """An image whose header is read, and whose pixels are not."""

    header: Header
    num_bands: int
    """Number of bands without those that are mattes, which come last."""
    is_rgb: bool
    """Whether the first three are red, green and blue."""
    read: Callable[[], Shaped[np.ndarray, "h w C"]]
    """Reads the pixels as they are stored. Raises whatever a broken file leads to."""
