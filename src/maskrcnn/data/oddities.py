"""What is odd about images that can be decoded: 12-bit values in 16 bits, pages that are not read, turns left out."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from jaxtyping import Shaped

DIM = 0.1
"""Share of the range under which an image of more than 8 bits is told to be dim; 12 bits in 16 use 0.0625."""


def levels_used(image: Shaped[np.ndarray, "..."]) -> float:
    """Share of the positive range of an image's numbers that its largest reaches; floating-point ones have no range.

    >>> levels_used(np.array([[0, 4095]], np.uint16)), levels_used(np.array([[255]], np.uint8))
    (0.06248569466697185, 1.0)
    """
    if image.dtype.kind == "f":
        return 1.0
    most = 1 if image.dtype.kind == "b" else np.iinfo(image.dtype).max
    return int(image.max(initial=0)) / int(most)


@dataclass
class Oddities:
    """What was met while images were decoded; threads may report at the same time."""

    dim: dict[Hashable, tuple[float, int]] = field(default_factory=dict)
    """Share of its levels that each dim image uses, and their bits, by its path or page."""
    with_pages: set[Hashable] = field(default_factory=set)
    """Files of several images, of which the first was read."""
    without_jpeg: set[Hashable] = field(default_factory=set)
    """Files that augmentation should compress, whose numbers no JPEG holds."""
    left_turned: set[Hashable] = field(default_factory=set)
    """Files whose annotations state the size before the EXIF rotation, which was left out for them."""
    _told: set[str] = field(default_factory=set, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(
        self,
        name: Hashable,
        *,
        share: float = 1.0,
        bits: int = 16,
        has_pages: bool = False,
        is_left_turned: bool = False,
        has_jpeg: bool = True,
    ) -> None:
        """Report an image. One that is black all over is not dim: nothing in it could be stretched."""
        with self._lock:
            if 0 < share < DIM:
                self.dim[name] = share, bits
            if has_pages:
                self.with_pages.add(name)
            if is_left_turned:
                self.left_turned.add(name)
            if not has_jpeg:
                self.without_jpeg.add(name)

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each kind of oddity that was met and not told before."""
        with self._lock:
            sentences = {
                "dim": self._on_dim(),
                "pages": self._on_pages(),
                "turned": self._on_turned(),
                "jpeg": self._on_jpeg(),
            }
            new = {kind: text for kind, text in sentences.items() if text and kind not in self._told}
            self._told |= set(new)
        yield from new.values()

    def _on_dim(self) -> str:
        if not self.dim:
            return ""
        name = min(self.dim, key=str)
        share, bits = self.dim[name]
        told = f"{name} uses {100 * share:.1g} % of its {bits} bits and is read nearly black"
        return f"{told}{_like_others(len(self.dim) - 1)}; data.levels=fixed takes the range that is used"

    def _on_pages(self) -> str:
        if not self.with_pages:
            return ""
        told = f"{min(self.with_pages, key=str)} holds several images, of which only the first is read"
        return f"{told}{_like_others(len(self.with_pages) - 1)}"

    def _on_turned(self) -> str:
        if not self.left_turned:
            return ""
        told = f"{min(self.left_turned, key=str)} carries a rotation that its annotated size leaves out"
        others = _like_others(len(self.left_turned) - 1)
        return f"{told}{others}; objects are taken as drawn on the unrotated image, as `maskrcnn data show` shows them"

    def _on_jpeg(self) -> str:
        if not self.without_jpeg:
            return ""
        told = f"{min(self.without_jpeg, key=str)} is not of 8 bits, or its levels are mapped"
        others = _like_others(len(self.without_jpeg) - 1)
        return f"{told}{others}; no JPEG holds that, so data.augment.jpeg has no effect there"


def _like_others(number: int) -> str:
    return f", as with {number} more" if number else ""
