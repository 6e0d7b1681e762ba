"""How messages put things."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_spoken: ContextVar[Mapping[str, str] | None] = ContextVar("spoken", default=None)


class Note(UserWarning):
    """What a person should know but need not change; each process of a run would say the same."""


def some_of(items: Iterable[object], most: int = 5, *, separator: str = ", ") -> str:
    """The first items of a list, and how many more there are.

    >>> some_of(["cat", "dog", "bird", "fish"], most=2), some_of([3, 5]), some_of([])
    ('cat, dog and 2 more', '3, 5', 'none')
    """
    words = [printable(str(item)) for item in items]
    rest = f" and {len(words) - most} more" if len(words) > most else ""
    return separator.join(words[:most]) + rest or "none"


def printable(text: str) -> str:
    """A text in which what a terminal would obey stands as it is written in Python and JSON: control characters, marks
    that turn the direction of writing, halves of characters.

    >>> printable("red \\x1b[31m"), printable("gpj.\\u202etac")
    ('red \\\\x1b[31m', 'gpj.\\\\u202etac')
    """
    if text.isprintable():
        return text
    return _OBEYED.sub(lambda found: _written(found[0]), text)


def in_lines(text: str) -> str:
    r"""The same of a text of several lines, whose tabs and ends of lines stay.

    >>> in_lines("a\tb\n\x1b[2J")
    'a\tb\n\\x1b[2J'
    """
    return text if text.isprintable() else _OBEYED_IN_LINES.sub(lambda found: _written(found[0]), text)


_SIGNS = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_OBEYED = re.compile(f"[\x00-\x1f{_SIGNS}]")
_OBEYED_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_SIGNS}]")


def _written(sign: str) -> str:
    return repr(sign)[1:-1] if sign < " " else f"\\u{ord(sign):04x}"


ONE = {"are": "is", "were": "was", "have": "has", "do": "does", "they": "it", "them": "it", "their": "its"}
"""Words that change where a sentence is about one thing."""
NO_VERBS = ("cannot", "beyond", "in", "of", "with", "without")
"""Words that may follow a noun and get no s."""
_PLURAL = re.compile(r"(.*?\w)s(?: (\w+)(.*))?")


def counted(number: int, words: str) -> str:
    """A number, a noun in the plural and what is said of it; of one thing noun, verb and pronouns are put otherwise.

    >>> counted(2, "objects have no id; they are numbered"), counted(1, "objects have no id; they are numbered")
    ('2 objects have no id; they are numbered', '1 object has no id; it is numbered')
    >>> counted(1, "crowd regions carry their id"), counted(1, "classes"), counted(1, "files cannot be read")
    ('1 crowd region carries its id', '1 class', '1 file cannot be read')
    """
    found = _PLURAL.fullmatch(words) if number == 1 else None
    if found is None:
        return f"{number} {words}"
    noun, verb, rest = found.groups(default="")
    rest = re.sub(r"\w+", lambda word: ONE.get(word[0], word[0]), rest)
    verb = ONE.get(verb) or (verb if verb in NO_VERBS else _with_s(verb))
    return f"1 {_without_s(noun)} {verb}{rest}".rstrip()


def _without_s(noun: str) -> str:
    """A noun in the singular: its plural without the last s is given."""
    if noun.endswith("ie"):
        return noun.removesuffix("ie") + "y"
    return noun.removesuffix("e") if noun.endswith(("sse", "xe", "che", "she")) else noun


def _with_s(verb: str) -> str:
    if verb.endswith("y"):
        return verb.removesuffix("y") + "ies"
    return verb and verb + ("es" if verb.endswith(("s", "x", "ch", "sh")) else "s")


def shortened(text: str, most: int) -> str:
    r"""A text of at most so many characters and of one line: the middle of a longer one is left out.

    >>> shortened("a name\nthat never ends", 11)
    'a na...ends'
    """
    line = " ".join(text.splitlines())
    half = (most - 3) // 2
    return line if len(line) <= most else f"{line[:half]}...{line[-half:]}"


@contextmanager
def speaking(words: Mapping[str, str]) -> Iterator[None]:
    """While a program runs, give advice in its words.

    words   what `maskrcnn train` takes, such as `--out`, and what a person types here for it, such as `--save_dir`
    """
    token = _spoken.set(words)
    try:
        yield
    finally:
        _spoken.reset(token)


def typed(words: str) -> str:
    """Words of `maskrcnn train` as a person types them in the program that runs.

    >>> with speaking({"--out": "--save_dir"}):
    ...     f"choose another {typed('--out')}; {typed('device=cpu')} works"
    'choose another --save_dir; device=cpu works'
    """
    return (_spoken.get() or {}).get(words, words)
