"""Where the processes of a run meet: an address that each finds by itself, the same for all of them."""

import os
import zlib
from collections.abc import Mapping

from maskrcnn.runtime.ranks import Ranks, first_node, launcher_of

LOOPBACK = "127.0.0.1"
FIRST_PORT, PORTS = 20000, 12000
"""Ports that are drawn from, below the range that Linux hands out."""


def meeting_point(env: Mapping[str, str], ranks: Ranks) -> str:
    """The address where processes meet, the same for all of them without asking anyone.

    Under Open MPI's `mpirun` on one machine it is a file in the job's own folder, which cannot collide with another
    job; elsewhere it is a port drawn from the job's name. Raises ValueError where the environment does not say enough.
    """
    launcher, port = launcher_of(env), env.get("MASTER_PORT")
    if launcher in (None, "torchrun"):
        if env.get("MASTER_ADDR") is None or port is None:
            raise ValueError("WORLD_SIZE is set but MASTER_ADDR or MASTER_PORT is not; torchrun sets all of them")
        return "env://"
    host, job = first_host(env, ranks), _job(env, ranks)
    if port is not None:
        return f"tcp://{host}:{port}"
    name = zlib.crc32(job.encode())
    folder = env.get("PMIX_SERVER_TMPDIR", "")
    if launcher == "openmpi" and _is_alone(ranks) and "MASTER_ADDR" not in env and os.path.isdir(folder):
        return f"file://{folder}/maskrcnn-{name:08x}"
    if not job:
        raise ValueError(
            f"mpirun does not name its job; add `{_given(env, 'MASTER_PORT', 'a free port of the first machine')}`"
        )
    return f"tcp://{host}:{FIRST_PORT + name % PORTS}"


def first_host(env: Mapping[str, str], ranks: Ranks) -> str:
    """The machine of the first process. Raises ValueError where the environment does not say which that is."""
    if "MASTER_ADDR" in env:
        return env["MASTER_ADDR"]
    if _is_alone(ranks):
        return LOOPBACK
    nodes = env.get("SLURM_STEP_NODELIST", "") if launcher_of(env) == "slurm" else ""
    if not nodes:
        raise ValueError(
            f"mpirun spread {ranks.size} processes over several machines, and MASTER_ADDR does not say where the "
            f"first one is; add `{_given(env, 'MASTER_ADDR', 'its name or address')}`"
        )
    return first_node(nodes)


def _is_alone(ranks: Ranks) -> bool:
    """Whether all processes are on one machine."""
    return ranks.local_size == ranks.size


def _given(env: Mapping[str, str], name: str, what: str) -> str:
    """How a variable is handed to the processes."""
    return f"-x {name}=<{what}>" if launcher_of(env) == "openmpi" else f"-genv {name} <{what}>"


def _job(env: Mapping[str, str], ranks: Ranks) -> str:
    """What names a job and no other one; empty where nothing does."""
    launcher = launcher_of(env)
    if launcher == "slurm":
        return f"{env.get('SLURM_JOB_ID', '')}.{env.get('SLURM_STEP_ID', '')}"
    if launcher == "mpich":  # whose processes of one machine have one parent
        return str(os.getppid()) if _is_alone(ranks) else ""
    return env.get("PMIX_NAMESPACE") or env.get("OMPI_MCA_ess_base_jobid") or ""
