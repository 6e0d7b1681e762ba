"""Results of a batch become those of whole images: at once, or when all tiles of an image have come."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from maskrcnn.data.dataset import Dataset
from maskrcnn.instances import Instances
from maskrcnn.joining import Joiner


def collect(shown: Dataset, plan: Sequence[Int64[np.ndarray, " _"]]) -> "Whole | Tiles":
    """What collects the results of some images, or of tiles where the data set consists of them."""
    return Whole(shown, plan) if shown.parts is None else Tiles(shown)


class Whole:
    """Images that are shown whole: each result is one."""

    def __init__(self, shown: Dataset, plan: Sequence[Int64[np.ndarray, " _"]]) -> None:
        self._ids = shown.image_ids
        self.num_images = sum(map(len, plan))
        """Number of images that will be finished."""

    def add(self, indices: Sequence[int], found: Sequence[Instances]) -> dict[int, Instances]:
        """The images, by their ids, that these results finish."""
        return dict(zip(self.finished(indices), found, strict=True))

    def finished(self, indices: Sequence[int]) -> list[int]:
        """Ids of the images that are finished by these, which each come once; another thread may ask than adds."""
        return self._ids[list(indices)].tolist()


class Tiles:
    """Images that are shown in tiles, which are joined when the last one of an image has come."""

    def __init__(self, shown: Dataset) -> None:
        assert shown.parts is not None
        ids, first = np.unique(shown.image_ids, return_index=True)
        order = np.argsort(first)
        self._ids, self._first = ids[order].tolist(), first[order]
        self._windows = np.split(shown.parts.windows, self._first[1:])
        self._sizes = shown.parts.sizes[self._first].tolist()
        self._joiners: dict[int, Joiner] = {}
        self._left = [len(windows) for windows in self._windows]
        self.num_images = len(self._ids)
        """Number of images that will be finished."""

    def add(self, indices: Sequence[int], found: Sequence[Instances]) -> dict[int, Instances]:
        """The images, by their ids, that these results finish."""
        done = {}
        for index, one in zip(indices, found, strict=True):
            image = self._image(index)
            if image not in self._joiners:
                self._joiners[image] = Joiner(tuple(self._sizes[image]), self._windows[image])
            self._joiners[image].add(index - int(self._first[image]), one)
            if self._joiners[image].is_complete:
                done[self._ids[image]] = self._joiners.pop(image).joined()
        return done

    def finished(self, indices: Sequence[int]) -> list[int]:
        """Ids of the images that are finished by these, which each come once; another thread may ask than adds."""
        done = []
        for image in map(self._image, indices):
            self._left[image] -= 1
            if not self._left[image]:
                done.append(self._ids[image])
        return done

    def _image(self, index: int) -> int:
        """The number of a tile's image."""
        return int(np.searchsorted(self._first, index, side="right")) - 1
