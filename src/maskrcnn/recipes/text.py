"""YAML as recipes use it: the safe loader, the numbers and booleans of YAML 1.2, no duplicate keys."""

import math
import re
from collections import Counter
from collections.abc import Hashable
from typing import Any, NamedTuple

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
MOST_LETTERS, MOST_VALUES, DEEPEST = 1 << 20, 50_000, 32
"""Letters, keys and values, and lists in each other that a recipe may have: room for the names of 10,000 classes."""
MOST_KEYS = 2_000
"""Settings of a section, of which there are a few dozen."""
MOST_DIGITS = 100
"""Digits of a whole number; a longer one stays text, which no numeric setting accepts."""
_NUMBER_START = list("-+.0123456789")


class RecipeLoader(_Loader):
    """Reads YAML 1.2 scalars: YAML 1.1 has `1e-4` as text, `1:30` as 90 and `no` as false."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own class attribute, filled below)

    def construct_unique(self, node: yaml.MappingNode) -> dict[Hashable, Any]:
        """Construct a mapping. Raises ValueError for a duplicate key, of which YAML would silently keep the last."""
        pairs = [(self.construct_object(key), value) for key, value in node.value]
        times = Counter(name for name, _ in pairs if isinstance(name, str))
        for (name, _), (key, _) in zip(pairs, node.value, strict=True):
            if not isinstance(name, str):
                raise ValueError(f"line {key.start_mark.line + 1}: expected a key that is text, got {name!r}")
            if times[name] > 1:
                raise ValueError(
                    f"line {key.start_mark.line + 1}: expected each key once in a section, got {name} twice"
                )
        return {name: self.construct_object(value, deep=True) for name, value in pairs}


class RecipeDumper(_Dumper):
    """Quotes text that either YAML 1.1 or `RecipeLoader` would read as something else."""

    def ignore_aliases(self, data: object) -> bool:
        """Write every value out, without anchors and aliases."""
        return True


def _number(loader: Any, node: yaml.ScalarNode) -> float | str:
    """Convert a number; one beyond float64, such as 1e999, stays text, which no numeric setting accepts."""
    word = loader.construct_scalar(node)
    return float(word) if math.isfinite(float(word)) else word


def _whole(loader: Any, node: yaml.ScalarNode) -> int | str:
    word = loader.construct_scalar(node)
    return int(word) if len(word) <= MOST_DIGITS else word


def _is_true(loader: Any, node: yaml.ScalarNode) -> bool:
    return loader.construct_scalar(node).lower() == "true"


for _reader in (RecipeLoader, RecipeDumper):
    _reader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    _reader.add_implicit_resolver(
        "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    )
    _reader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), _NUMBER_START)
    _reader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
        _NUMBER_START,
    )
RecipeLoader.add_constructor("tag:yaml.org,2002:map", RecipeLoader.construct_unique)
RecipeLoader.add_constructor("tag:yaml.org,2002:bool", _is_true)
RecipeLoader.add_constructor("tag:yaml.org,2002:int", _whole)
RecipeLoader.add_constructor("tag:yaml.org,2002:float", _number)


def parse(text: str) -> Any:
    """Parse one YAML document. Raises ValueError where it is not valid YAML.

    >>> parse("{rate: 1e-4, flip: no, sides: [640, 672]}")
    {'rate': 0.0001, 'flip': 'no', 'sides': [640, 672]}
    """
    if len(text) > MOST_LETTERS:
        raise ValueError(f"expected settings of up to {MOST_LETTERS} letters, received {len(text)}")
    try:
        _refuse_bombs(text)
        loader = RecipeLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None


class _Open(NamedTuple):
    """A list or section that is being read."""

    anchor: str
    before: int
    """Keys and values before it."""
    most: int
    """Keys and values that it may hold itself."""


def _refuse_bombs(text: str) -> None:
    """Raise ValueError where YAML is nested or repeats itself so that to read it would end the process or never end."""
    sizes: dict[str, int] = {}
    inside: list[_Open] = []
    counts = [0]
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        where, anchor = f"line {event.start_mark.line + 1}", getattr(event, "anchor", None) or ""
        total += 1
        if isinstance(event, yaml.NodeEvent):
            counts[-1] += 1
        if isinstance(event, yaml.CollectionStartEvent):
            most = 2 * MOST_KEYS if isinstance(event, yaml.MappingStartEvent) else MOST_VALUES
            inside.append(_Open(anchor, total, most))
            counts.append(0)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = inside.pop()
            counts.pop()
            sizes[done.anchor] = total - done.before
        elif isinstance(event, yaml.AliasEvent) and anchor not in sizes:
            raise ValueError(f"{where}: *{anchor} repeats what it is in, or nothing")
        elif isinstance(event, yaml.AliasEvent):
            total += sizes[anchor]
        elif isinstance(event, yaml.ScalarEvent):
            sizes[anchor] = 1
        if len(inside) > DEEPEST:
            raise ValueError(f"{where}: expected up to {DEEPEST} lists and sections in each other, received more")
        if total > MOST_VALUES or (inside and counts[-1] > inside[-1].most):
            raise ValueError(
                f"{where}: expected up to {MOST_KEYS} settings in a section and {MOST_VALUES} keys and values in all, "
                "received more"
            )


def dump(value: object) -> str:
    """Write a value on one line of YAML.

    >>> dump(["1e5", 1e-05, True, None])
    "['1e5', 1.0e-05, true, null]"
    """
    text = yaml.dump(value, Dumper=RecipeDumper, default_flow_style=True, allow_unicode=True, width=1 << 30)
    return text.removesuffix("\n").removesuffix("\n...")
