"""Arrays of numpy as images: `.npy` files of h x w or h x w x C numbers."""

import math
import os
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy.lib import format as npy

from maskrcnn.data.header import Header
from maskrcnn.data.image_file import refuse_size
from maskrcnn.data.raster import Raster
from maskrcnn.storage.location import Location

MARK = npy.MAGIC_PREFIX
FEW, MANY = 32, 64
"""An array with fewer rows than the first and more numbers in a pixel than the second has its bands in front."""


def open_array(file: BytesIO | BufferedReader, path: Path | Location) -> Raster:
    """An array as an image. No pickled object is read. Raises ValueError: one sentence, which names `path`."""
    try:
        version = npy.read_magic(file)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, by_columns, dtype = read_header(file)
    except Exception as error:  # a broken header leads numpy to raise many things
        raise ValueError(f"the image {path} has no readable header of a .npy file ({error}); save it again") from None
    start = file.tell()
    num_bytes = file.seek(0, os.SEEK_END) - start
    _refuse(shape, dtype, num_bytes, path)
    size = shape[0], shape[1]
    refuse_size(size, "NPY", num_bytes, path, bytes_per_pixel=math.prod(shape[2:]) * dtype.itemsize)
    bands = shape[2] if len(shape) == 3 else 1
    bits = 1 if dtype.kind == "b" else 8 * dtype.itemsize

    def read() -> Shaped[np.ndarray, "h w C"]:
        file.seek(start)
        numbers = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
        array = numbers.reshape(shape, order="F" if by_columns else "C").reshape(*size, bands)
        return np.ascontiguousarray(array, dtype.newbyteorder("="))

    return Raster(Header(size, size, 1, bits, bands, "NPY"), bands, bands == 3, read)


def _refuse(shape: tuple[int, ...], dtype: np.dtype, num_bytes: int, path: Path | Location) -> None:
    if dtype.hasobject or dtype.kind not in "buif":
        raise ValueError(f"the image {path} holds {dtype}, but expected are whole or floating-point numbers")
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"the image {path} has the shape {shape}, but expected are h x w or h x w x bands")
    if len(shape) == 3 and shape[0] < FEW and shape[2] > MANY:
        raise ValueError(
            f"the image {path} has the shape {shape}, with its bands in front; save np.moveaxis(array, 0, 2)"
        )
    expected = math.prod(shape) * dtype.itemsize
    if num_bytes < expected:
        raise ValueError(
            f"the image {path} is cut off: expected {expected} bytes of pixels, found {num_bytes}; restore or remove it"
        )
