"""What a format could not keep, counted while it was written."""

import numpy as np

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats.coco_extras import Extras, extras_lost
from maskrcnn.sentences import counted, some_of


class Losses:
    """Sentences and how many things each is about.

    title   of the format
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._counts: dict[str, int] = {}
        self._renamed: list[str] = []

    def add(self, what: str, count: int = 1) -> None:
        """Count things. what: noun and claim, such as `crowd regions are left out`."""
        if count:
            self._counts[what] = self._counts.get(what, 0) + int(count)

    def say(self, sentence: str) -> None:
        """Add a sentence without a number."""
        self._counts[sentence] = 0

    def count(self, data: Dataset, *, attributes: bool = False, areas: bool = False, extras: bool = False) -> None:
        """Count keypoints, and attributes, stated areas and extras of COCO's files unless the format keeps them."""
        if data.keypoints is not None:
            have = int((data.keypoints[..., 2] > 0).any(axis=1).sum())
            self.add(f"objects lose their keypoints, for which {self._title} has no place", have)
        if data.attributes is not None and not attributes:
            self.add(
                f"objects lose their attributes, for which {self._title} has no place", sum(map(bool, data.attributes))
            )
        if not areas:
            stated = int(np.isfinite(data.areas).sum())
            self.add(f"objects lose their stated area, which {self._title} measures on the mask", stated)
        if data.keypoint_names:
            self.say(f"keypoints of classes have no place in {self._title}: {some_of(data.keypoint_names)}")
        if data.joined or not extras:
            self.say_extras(data)
        if not extras and (same := len(data.category_names) - len(set(data.category_names))):
            self.say(counted(same, "classes bear the name of another and are one with it"))

    def say_extras(self, data: Dataset) -> None:
        """Name what a COCO file says that a copy lacks."""
        if told := extras_lost(data):
            why = "is not joined" if data.joined else f"has no place in {self._title}"
            self.say(f"what COCO files say besides {why}: {told}")

    def say_contradicted(self, data: Dataset, extras: Extras) -> None:
        """Name classes that stand for several categories of which a file says different things."""
        fields = {name: extras.contradicted(of) for name, of in zip(data.category_names, data.origins, strict=True)}
        told = [f"{name} ({some_of(lost)})" for name, lost in fields.items() if lost]
        if told:
            why = "classes stand for several categories; what these say differently is left out"
            self.say(f"{counted(len(told), why)}: {some_of(told)}")

    def renamed(self, data: Dataset, names: list[str]) -> list[str]:
        """Note images whose files are called otherwise now; gives the names.

        names   where each image was put
        """
        pairs = zip(data.file_names, names, strict=True)
        self._renamed += [f"{old} becomes {new}" for old, new in pairs if _last(old) != _last(new)]
        return names

    def sentences(self) -> list[str]:
        """One for each kind of thing.

        >>> losses = Losses("YOLO")
        >>> losses.add("crowd regions are left out", 2)
        >>> losses.sentences()
        ['2 crowd regions are left out']
        """
        told = [counted(count, what) if count else what for what, count in self._counts.items()]
        number = len(self._renamed)
        return [*told, *([f"{counted(number, 'images get')} another name: {self._renamed[0]}"] if number else [])]


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
