"""Which of several processes this one is, as the launcher's variables tell; imports nothing that is slow."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple


class Ranks(NamedTuple):
    """Number of a process, and of how many: in all, and on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


Launcher = Literal["torchrun", "openmpi", "mpich", "slurm"]
VARIABLES: dict[Launcher, tuple[str, ...]] = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "openmpi": tuple(f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")),
    "mpich": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    "slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
}
"""Rank, number of processes, and the same on this machine."""


def launcher_of(env: Mapping[str, str]) -> Launcher | None:
    """What started this process beside others; None where nothing did.

    The innermost counts: `srun` may have started `torchrun` or `mpirun`, whose processes have its variables too.
    """
    if "RANK" in env and "WORLD_SIZE" in env:
        return "torchrun"
    if "OMPI_COMM_WORLD_RANK" in env:
        return "openmpi"
    if "PMI_RANK" in env and "MPI_LOCALRANKID" in env:  # `srun` sets the first alone
        return "mpich"
    # Only `srun` sets the number of tasks of a step. The shell of a job has the number of tasks of the job, and
    # itself is one process.
    if "SLURM_PROCID" in env and number_in(env, "SLURM_STEP_NUM_TASKS", 1) > 1:
        return "slurm"
    return None


def find_ranks(env: Mapping[str, str]) -> Ranks:
    """Read the variables of torchrun, Open MPI, MPICH (and Intel MPI), or SLURM's `srun`, else stand alone.

    Raises ValueError where they are no ranks.
    """
    launcher = launcher_of(env)
    if launcher is None:
        return Ranks(rank=0, size=1, local_rank=0, local_size=1)
    names = VARIABLES[launcher]
    rank, size = number_in(env, names[0]), number_in(env, names[1])
    if not 0 <= rank < size:
        raise ValueError(f"{names[0]} is {rank} and {names[1]} is {size}; ranks run from 0 to {size - 1}")
    local_size = tasks_here(env, size) if launcher == "slurm" else number_in(env, names[3], size)
    return Ranks(rank, size, number_in(env, names[2], rank), local_size)


def tasks_here(env: Mapping[str, str], size: int) -> int:
    """Processes of a SLURM step on this machine, from a list such as `2(x3),1`.

    >>> [tasks_here({"SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_NODEID": str(node)}, 7) for node in (2, 3)]
    [2, 1]
    """
    counts: list[int] = []
    for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", env.get("SLURM_STEP_TASKS_PER_NODE", "")):
        counts += [int(tasks)] * int(times or 1)
    node = number_in(env, "SLURM_NODEID")
    return counts[node] if node < len(counts) else number_in(env, "SLURM_NTASKS_PER_NODE", size)


def first_node(nodes: str) -> str:
    """The first machine of a SLURM list.

    >>> first_node("gpu[07-12,3],login1"), first_node("rack[2,4]n[1-9]"), first_node("a,b")
    ('gpu07', 'rack2n1', 'a')
    """
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    assert first is not None, "an empty one matches"
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", first[0])


def was_restarted(env: Mapping[str, str]) -> bool:
    """Whether elastic torchrun started this process again, after one of its group had ended."""
    return number_in(env, "TORCHELASTIC_RESTART_COUNT") > 0


def elastic_job(env: Mapping[str, str]) -> str:
    """The id of elastic torchrun's job, which its restarts share; empty where it has none of its own."""
    job = env.get("TORCHELASTIC_RUN_ID", "")
    return "" if job == "none" else job


def number_in(env: Mapping[str, str], name: str, otherwise: int = 0, *, least: int = 0, most: int = 2**31) -> int:
    """Read a variable; `otherwise` where it is empty or not there. Raises ValueError for what is no such number."""
    word = env.get(name, "").strip()
    if not word:
        return otherwise
    if not (word.isdecimal() and least <= int(word) <= most):
        to = f"from {least} to {most}" if most < 2**31 else f">= {least}"
        raise ValueError(f"{name}: expected a whole number {to}, received {word!r}; correct that variable")
    return int(word)
