"""What the allocator of the C library does with freed memory. Knows nothing of torch, so that reading files needs none.

Does nothing with other libraries than glibc.
"""

import ctypes
from contextlib import suppress

_MOST_MAPPED, _LEAST_TRIMMED = -4, -1
"""M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's mallopt."""
_NEVER = 2**31 - 1
_ANOTHER_LIBRARY = OSError, AttributeError, TypeError
"""What is raised where the functions of glibc are missing."""


def keep_freed() -> None:
    """Let this process keep what it frees, and use it again.

    glibc gives each large block back to the system, which fills it with zeros, page by page, when it is wanted again:
    for the activations of a large image that is a tenth of a prediction.
    """
    with suppress(*_ANOTHER_LIBRARY):
        library = ctypes.CDLL(None)
        library.mallopt(_MOST_MAPPED, 0)
        library.mallopt(_LEAST_TRIMMED, _NEVER)


def give_back() -> None:
    """Return to the system what this process has freed, which the allocators of its threads would keep."""
    with suppress(*_ANOTHER_LIBRARY):
        ctypes.CDLL(None).malloc_trim(0)
