"""Where parts of a text lie in it."""

import numpy as np
from msgspec import Raw


def offset_of(part: Raw, text: bytes) -> int:
    """Where a part begins in the text that it was read from, in which a `Raw` lies; nothing is read there."""
    return np.frombuffer(part, np.uint8).ctypes.data - np.frombuffer(text, np.uint8).ctypes.data
