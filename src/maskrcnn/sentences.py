"""How messages put things."""

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
    words = [str(item) for item in items]
    rest = f" and {len(words) - most} more" if len(words) > most else ""
    return separator.join(words[:most]) + rest or "none"


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters and of one line: the middle of a longer one is left out.

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
