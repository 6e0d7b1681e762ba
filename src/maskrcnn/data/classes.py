"""Classes by name: chosen, renamed, united, and the same in several data sets."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np
from jaxtyping import Int64

from maskrcnn.data.dataset import Dataset, keep_objects
from maskrcnn.sentences import some_of


def choose_classes(data: Dataset, classes: Sequence[str]) -> Dataset:
    """Keep the objects of some classes; their images all stay.

    classes   names, or `new=old`; several old ones with the same new name become one class, with the first one's id
    Raises ValueError for a name that the data do not have.
    """
    if not classes:
        return data
    labels_of = {name: label for label, name in reversed(list(enumerate(data.category_names, 1)))}
    wanted = [_pair(name, labels_of) for name in classes]
    for new, old in wanted:
        if old not in labels_of:
            raise ValueError(f"data.classes: {_unknown(old, data)}")
        if not new:
            raise ValueError(f"data.classes: expected a name before `=` in ={old}")
    ids = {new: data.category_ids[labels_of[old] - 1] for new, old in reversed(wanted)}
    names = sorted(ids, key=ids.__getitem__)
    table = np.zeros(len(data.category_names) + 1, np.int64)
    for new, old in wanted:
        table[labels_of[old]] = names.index(new) + 1
    labels = table[data.labels]
    return replace(
        keep_objects(replace(data, labels=np.maximum(labels, 1)), labels > 0),
        labels=labels[labels > 0],
        category_ids=tuple(ids[name] for name in names),
        category_names=tuple(names),
    )


def unite_classes(splits: Sequence[Dataset]) -> list[Dataset]:
    """Give several data sets the same classes, known by their names.

    The first one's come first; where ids differ, they are numbered from 1.
    Raises ValueError where a name repeats in one of the data sets and the lists differ.
    """
    first = splits[0]
    if all(_listed(one) == _listed(first) for one in splits):
        return list(splits)
    for one in splits:
        if len(set(one.category_names)) < len(one.category_names):
            twice = [name for name in dict.fromkeys(one.category_names) if one.category_names.count(name) > 1]
            raise ValueError(
                f"{one.annotations} has several categories called {some_of(twice)}, so that its classes cannot be "
                "known by their names; give each its own"
            )
    names = tuple(dict.fromkeys(name for one in splits for name in one.category_names))
    ids = first.category_ids if names == first.category_names else tuple(range(1, len(names) + 1))
    return [_with_categories(one, names, ids) for one in splits]


def _with_categories(data: Dataset, names: tuple[str, ...], ids: tuple[int, ...]) -> Dataset:
    table: Int64[np.ndarray, " _"] = np.array([0, *(names.index(name) + 1 for name in data.category_names)])
    return replace(data, labels=table[data.labels], category_names=names, category_ids=ids)


def _listed(data: Dataset) -> tuple[tuple[int, ...], tuple[str, ...]]:
    return data.category_ids, data.category_names


def _pair(words: str, known: dict[str, int]) -> tuple[str, str]:
    """(new name, old name); a class may have `=` in its own name."""
    if words in known or "=" not in words:
        return words, words
    new, _, old = words.partition("=")
    return new.strip(), old.strip()


def _unknown(name: str, data: Dataset) -> str:
    near = get_close_matches(name, data.category_names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {some_of(data.category_names, 12)}"
    return f"{data.annotations} has no class {name!r}; {hint}"
