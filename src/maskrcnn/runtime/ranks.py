"""Which of several processes this one is, as the launcher's variables tell; imports nothing that is slow."""

from collections.abc import Mapping
from typing import NamedTuple


class Ranks(NamedTuple):
    """Number of a process, and of how many: in all, and on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def find_ranks(env: Mapping[str, str]) -> Ranks:
    """Read torchrun's variables, else Open MPI's, else stand alone. Raises ValueError where they are no ranks."""
    if "RANK" in env and "WORLD_SIZE" in env:
        names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"]
    elif "OMPI_COMM_WORLD_RANK" in env:
        names = [f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")]
    else:
        return Ranks(rank=0, size=1, local_rank=0, local_size=1)
    rank, size = number_in(env, names[0]), number_in(env, names[1])
    if not 0 <= rank < size:
        raise ValueError(f"{names[0]} is {rank} and {names[1]} is {size}; ranks run from 0 to {size - 1}")
    return Ranks(rank, size, number_in(env, names[2], rank), number_in(env, names[3], size))


def number_in(env: Mapping[str, str], name: str, otherwise: int = 0, *, least: int = 0, most: int = 2**31) -> int:
    """Read a variable; `otherwise` where it is empty or not there. Raises ValueError for what is no such number."""
    word = env.get(name, "").strip()
    if not word:
        return otherwise
    if not (word.isdecimal() and least <= int(word) <= most):
        to = f"from {least} to {most}" if most < 2**31 else f">= {least}"
        raise ValueError(f"{name}: expected a whole number {to}, received {word!r}; correct that variable")
    return int(word)
