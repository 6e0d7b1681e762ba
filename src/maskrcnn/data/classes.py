"""Classes by name: chosen, renamed, united, and the same in several data sets."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import count
from typing import NamedTuple

import numpy as np
import yaml
from jaxtyping import Int64

from maskrcnn.data.dataset import Dataset, keep_objects
from maskrcnn.data.faults import Kind, Severity
from maskrcnn.sentences import some_of

NOT_THERE = Kind(
    "class-not-there", "classes", Severity.REFUSED, "are chosen by data.classes and are not among those of the split"
)
EQUAL_SIGN = re.compile(r'"(?:[^"\\]|\\.)*"|=')
"""A text in double quotes, or an equal sign that is in none."""


class Choice(NamedTuple):
    """Classes that were chosen by name."""

    names: tuple[str, ...]
    ids: tuple[int, ...]
    """Category ids, ascending."""
    labels: Int64[np.ndarray, " K+1"]
    """New label of each old one; 0 for classes that are left out, and for the background."""


def choose(names: Sequence[str], ids: Sequence[int], classes: Sequence[str], who: str) -> Choice:
    """Choose classes, in the order of their category ids.

    classes   names, or `new=old`; several old ones with the same new name become one class, with the least id of them.
              Names that contain `=`, or have blanks at their ends, may stand in double quotes: `"a=b"="Cat "`
    who       what has the classes, for messages
    Raises ValueError for a name that is not there.
    """
    known = {name: label for label, name in reversed(list(enumerate(names, 1)))}
    wanted = [_pair(words, known) for words in classes]
    for new, old in wanted:
        if old not in known:
            near = get_close_matches(old, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {some_of(names, 12)}"
            raise ValueError(f"{who} has no class {old!r}; {hint}")
        if not new:
            raise ValueError(f"expected a name before `=` in {new}={old}, the new name of class {old}")
        others = [one for one, same in wanted if same == old and one != new]
        if others:
            raise ValueError(
                f"data.classes gives class {old!r} two names, {new!r} and {others[0]!r}; leave one of them"
            )
    lowest: dict[str, int] = {}
    for new, old in wanted:
        lowest[new] = min(ids[known[old] - 1], lowest.get(new, ids[known[old] - 1]))
    chosen = sorted(lowest, key=lowest.__getitem__)
    labels = np.zeros(len(names) + 1, np.int64)
    for new, old in wanted:
        labels[known[old]] = chosen.index(new) + 1
    return Choice(tuple(chosen), tuple(lowest[name] for name in chosen), labels)


def choose_classes(data: Dataset, classes: Sequence[str]) -> Dataset:
    """Keep the objects of some classes, see `choose`; their images all stay. No names keep everything."""
    if not classes:
        return data
    choice = choose(data.category_names, data.category_ids, classes, f"data.classes: {data.annotations}")
    return relabel(keep_objects(data, choice.labels[data.labels] > 0), choice.labels, choice.ids, choice.names)


def relabel(data: Dataset, table: Int64[np.ndarray, " _"], ids: tuple[int, ...], names: tuple[str, ...]) -> Dataset:
    """Give a data set other classes, which know what they stand for in its file.

    table   new label of each old one; 0 for classes that have no objects and are left out
    """
    origins: list[tuple[tuple[int, str], ...]] = [()] * len(names)
    for origin, label in zip(data.origins, table[1:].tolist(), strict=True):
        if label:
            origins[label - 1] += origin
    return replace(
        data,
        labels=table[data.labels],
        category_ids=ids,
        category_names=names,
        category_origins=tuple(origins),
    )


def joining(one: str, other: str) -> str:
    """What data.classes says to make one of two classes, as YAML has it.

    >>> joining("cat", "Cat "), joining("a, b", "A, B")
    ("[cat, 'cat=\"Cat \"']", "['a, b', 'a, b=A, B']")
    """
    entries = [one, f"{quoted(one)}={quoted(other)}"]
    return yaml.safe_dump(entries, default_flow_style=True, allow_unicode=True, width=1 << 30).strip()


def choose_known(data: Dataset, classes: Sequence[str]) -> tuple[Dataset | None, list[str]]:
    """(the objects of those classes that are there, nothing where none is; the names of the others)."""
    known = {name: label for label, name in enumerate(data.category_names)}
    absent = [old for _, old in (_pair(words, known) for words in classes) if old not in known]
    there = [words for words in classes if _pair(words, known)[1] in known]
    return (choose_classes(data, there) if there else None), absent


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


def tidy_names(splits: Mapping[str, Dataset]) -> tuple[dict[str, Dataset], dict[str, str]]:
    """Names of classes that a line of a file can hold, as (the splits, new names by old ones).

    White space becomes single blanks, none at the ends. What equals the name of another class then gets a number
    behind it, and what has no name left is called by its id.
    """
    renamed: dict[str, str] = {}
    taken = {name for data in splits.values() for name in data.category_names if is_tidy(name)}
    for data in splits.values():
        for id, name in zip(data.category_ids, data.category_names, strict=True):
            if not is_tidy(name) and name not in renamed:
                renamed[name] = _not_taken(" ".join(name.split()) or f"class {id}", {*taken, *renamed.values()})
    return {part: _renamed(data, renamed) for part, data in splits.items()} if renamed else dict(splits), renamed


def is_tidy(name: str) -> bool:
    """Whether a name has no white space but single blanks between its words."""
    return name == " ".join(name.split()) != ""


def _renamed(data: Dataset, names: Mapping[str, str]) -> Dataset:
    given = tuple(names.get(name, name) for name in data.category_names)
    return relabel(data, np.arange(len(given) + 1), data.category_ids, given)


def _not_taken(name: str, taken: Collection[str]) -> str:
    """The name, with the first number behind it that makes it one of its own."""
    numbered = (f"{name} {number}" for number in count(2))
    return name if name not in taken else next(one for one in numbered if one not in taken)


def _with_categories(data: Dataset, names: tuple[str, ...], ids: tuple[int, ...]) -> Dataset:
    table: Int64[np.ndarray, " _"] = np.array([0, *(names.index(name) + 1 for name in data.category_names)])
    return relabel(data, table, ids, names)


def _listed(data: Dataset) -> tuple[tuple[int, ...], tuple[str, ...]]:
    return data.category_ids, data.category_names


def quoted(name: str) -> str:
    """A name as one side of `new=old` holds it: in double quotes where it would be read as another.

    >>> quoted("cat"), quoted("x=y"), quoted("Cat ")
    ('cat', '"x=y"', '"Cat "')
    """
    is_plain = name == name.strip() != "" and not {"=", '"'} & set(name)
    return name if is_plain else json.dumps(name, ensure_ascii=False)


def _pair(words: str, known: Collection[str]) -> tuple[str, str]:
    """(new name, old name); a class may have `=` in its own name, and either side may stand in double quotes."""
    if words in known:
        return words, words
    pairs = [(_unquoted(words[:end]), _unquoted(words[end + 1 :])) for end in _equal_signs(words)]
    if not pairs:
        return _unquoted(words), _unquoted(words)
    return next((pair for pair in pairs if pair[1] in known), pairs[0])


def _equal_signs(words: str) -> list[int]:
    """Where the `=` stand that are not in double quotes."""
    return [found.start() for found in EQUAL_SIGN.finditer(words) if found[0] == "="]


def _unquoted(side: str) -> str:
    """A side of `new=old` without blanks and quotes around it. Raises ValueError where quotes hold no text."""
    side = side.strip()
    if not (len(side) > 1 and side[0] == side[-1] == '"'):
        return side
    try:
        return str(json.loads(side))
    except ValueError:
        raise ValueError(
            f'data.classes: {side} cannot be read; within double quotes write a quote as \\" and a backslash as \\\\'
        ) from None
