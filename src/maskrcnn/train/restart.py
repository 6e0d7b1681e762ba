"""Whether a launcher began a run before: then it goes on, without a person who says so."""

from collections.abc import Mapping
from pathlib import Path

from maskrcnn.run_folder import JOB
from maskrcnn.runtime.ranks import elastic_job, was_restarted


def goes_on(out: Path, env: Mapping[str, str]) -> bool:
    """Whether this process continues the run in `out` for its launcher.

    Elastic torchrun counts its restarts after failures; one for machines that came or left it does not count, but its
    job's id (`--rdzv-id`) is still the one that `remember` wrote.
    """
    job, file = elastic_job(env), out / JOB
    return was_restarted(env) or bool(job and file.is_file() and file.read_text(encoding="utf-8") == job)


def remember(out: Path, env: Mapping[str, str]) -> None:
    """Write down the launcher's job, where it has an id."""
    job = elastic_job(env)
    if job:
        (out / JOB).write_text(job, encoding="utf-8")
