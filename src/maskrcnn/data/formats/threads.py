"""Files that threads look at, and what they meet told in the order of the files."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from maskrcnn.data.faults import Faults

THREADS = 8
Item = TypeVar("Item")
Found = TypeVar("Found")


def look_at(items: Iterable[Item], look: Callable[[Item, Faults], Found], faults: Faults) -> Iterator[Found]:
    """Yield what `look` gives for each item, in their order; what it reports is told in that order too."""

    def look_alone(item: Item) -> tuple[Found, Faults]:
        met = Faults()
        return look(item, met), met

    with ThreadPoolExecutor(THREADS) as pool:
        for found, met in pool.map(look_alone, items):
            faults.take(met)
            yield found
