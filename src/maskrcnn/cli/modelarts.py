"""Jobs on Huawei's ModelArts and on OpenI: what such a platform hands over, in the words of the doors.

It hands `--data_url` and its like over as arguments or as environment variables. They are folders of the container that
it has filled or will copy away, or addresses such as obs://BUCKET/DATA. Sources: ModelArts' pages on inputs and outputs
of training jobs and on the variables of a training container; on OpenI the lists are JSON.
"""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from maskrcnn.config import Data, Recipe
from maskrcnn.data.formats.archive import unpacked
from maskrcnn.job import ENABLED, HANDED_OVER
from maskrcnn.recipes import find_recipe, read_recipe
from maskrcnn.recipes.read import read_job, read_overrides
from maskrcnn.runtime.launch import Cluster, launch
from maskrcnn.runtime.ranks import find_ranks, number_in
from maskrcnn.sentences import some_of
from maskrcnn.storage.fetch import fetch_file
from maskrcnn.storage.location import Location, at, is_remote, printable
from maskrcnn.storage.store import listing

PORT = 29500
"""Where processes meet on the first machine, unless MASTER_PORT says otherwise."""


class Job(NamedTuple):
    """What a platform handed over. Of an empty text there is nothing."""

    data: str = ""
    """Folder or address of data."""
    datasets: str = ""
    """JSON: a list of `{"dataset_url": ..., "dataset_name": ...}`."""
    copy: str = ""
    """Folder for what comes from an address, or where data lies already."""
    out: str = ""
    """Folder or address of results; `--save_dir` where it was typed."""
    checkpoint: str = ""
    """Weights: a file, a folder, an address, or JSON: a list of `{"model_url": ..., "model_name": ...}`."""
    pretrained: str = ""
    """Likewise, of weights to begin with."""


def find_job(flags: Namespace, env: Mapping[str, str] = os.environ) -> Job | None:
    """Return what is handed over by flags, else by variables, else by the recipe's file; None outside a platform.

    Raises ValueError where enable_modelarts is neither True nor False, or two flags name the folder of results.
    """
    try:
        recipe = read_job(find_recipe(flags.config))
    except (FileNotFoundError, ValueError):  # told by whoever needs a recipe: infer.py does not
        recipe = {}
    told = getattr(flags, ENABLED) or env.get(ENABLED) or recipe.get(ENABLED) or False
    enabled = str(told).lower()
    if enabled not in ("true", "false", "1", "0"):
        raise ValueError(f"{ENABLED}: expected True or False, received {enabled!r}")
    if enabled in ("false", "0"):
        for name in HANDED_OVER:
            if getattr(flags, name):
                print(f"--{name} has no effect without --{ENABLED} True", file=sys.stderr)
        return None
    words = {
        name: str(getattr(flags, name) or env.get(name) or env.get(name.upper()) or recipe.get(name) or "")
        for name in HANDED_OVER
    }
    return Job(
        data=words["data_url"],
        datasets=words["multi_data_url"],
        copy=words["data_dir"],
        out=_results(flags, words["train_url"]),
        checkpoint=words["ckpt_url"],
        pretrained=words["pretrain_url"],
    )


def _results(flags: Namespace, handed: str) -> str:
    """Where results go: a folder that was typed wins over variables and the recipe's file."""
    own: str | None = getattr(flags, "save_dir", None)
    if own and flags.train_url:
        raise ValueError(f"--save_dir {own} and --train_url both name the folder of results; leave one out")
    return own or handed


def take_over(flags: Namespace, words: Sequence[str]) -> list[str]:
    """Fill the flags that were not given with what was handed over; return the recipe's settings among the words."""
    settings, unknown = split_words(words)
    if unknown and find_ranks(os.environ).rank == 0:
        print(f"arguments of the platform that change nothing here: {some_of(unknown, 20)}", file=sys.stderr)
    job: Job = flags.job
    for name, value in _handed(job).items():
        if hasattr(flags, name) and not getattr(flags, name):
            setattr(flags, name, value)
    if job.out:
        flags.save_dir = job.out
    return settings


def _handed(job: Job) -> dict[str, str | None]:
    """Values of flags, by name."""
    checkpoint = weights_of(job.checkpoint, "ckpt_url")
    return {
        "weights": weights_of(job.pretrained, "pretrain_url") or checkpoint,
        "ckpt_path": checkpoint,
        "imgs": job.data,
    }


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell settings of a recipe from arguments that only the platform knows; of these the names are returned.

    >>> split_words(["--train.batch", "4", "--init_method", "tcp://a:1", "--rank=0", "device=cpu", "--task"])
    (['--train.batch', '4', 'device=cpu'], ['init_method', 'rank', 'task'])
    """
    settings: list[str] = []
    unknown: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, has_value, _ = word.lstrip("-").partition("=")
        value = rest[:1] if not has_value and rest and not rest[0].startswith("--") and word.startswith("-") else []
        del rest[: len(value)]
        if "." in key or key in Recipe.__struct_fields__:
            settings += [word, *value]
        else:
            unknown.append(key)
    return settings, unknown


def check_data(job: Job) -> None:
    """Raise an error where data was handed over that is not there, or results would lie among it."""
    name, places = _data(job)
    for place in places:
        if job.out and _same(place, at(job.out)):
            raise ValueError(f"{name} and the folder of results are both {place}; choose another train_url")
        if isinstance(place, Location) or place.is_dir() or (place.is_file() and _is_archive(place)):
            continue
        if place.is_file():
            raise NotADirectoryError(f"{name}: expected a data set's folder or an archive .zip, received {place}")
        raise FileNotFoundError(
            f"{name}: there is nothing at {place} (working directory {Path.cwd()}); hand over a data set's folder or "
            "an archive .zip of it"
        )


def _same(one: Path | Location, other: Path | Location) -> bool:
    return one == other or (isinstance(one, Path) and isinstance(other, Path) and one.resolve() == other.resolve())


def data_settings(job: Job | None, config: str, overrides: Sequence[str]) -> list[str]:
    """The setting that leads a recipe to the data that was handed over, if any was.

    Raises ValueError where the command line names another folder than what was handed over or lies in it.
    """
    name, places = _data(job or Job())
    if job is None or not places:
        return []
    data = read_recipe(config, overrides).data
    folder = data_folder(job, data)
    is_typed = "data.dataset_dir" in dict(read_overrides(overrides).settings)
    if is_typed and Path(data.dataset_dir).name not in ("", folder.name):
        raise ValueError(
            f"data.dataset_dir={printable(data.dataset_dir)}: expected a folder inside {name}, {some_of(places)}, "
            f"found none; leave it out, or hand over with --{name} what holds it"
        )
    return [f"data.dataset_dir={folder}"]


def data_folder(job: Job, data: Data) -> Path | Location:
    """Return the folder of the data set in what was handed over.

    data   the recipe's settings: its `dataset_dir`, if that is a relative path, may be the folder inside
    Raises ValueError where several data sets are handed over and none of them has the recipe's training images.
    """
    folders = [_inside(_unpacked(place, job.copy), data) for place in _data(job)[1]]
    if len(folders) == 1:
        return folders[0]
    whole = [folder for folder in folders if _is_there(folder / data.train_img_dir)]
    if not whole:
        raise ValueError(
            f"multi_data_url: expected one of {some_of(folders)} to hold {data.train_img_dir}, found none; set "
            "data.dataset_dir, data.train_img_dir and data.train_anno_path to what lies there"
        )
    return whole[0]


def _data(job: Job) -> tuple[str, list[Path | Location]]:
    """The name under which data was handed over, and where it lies."""
    if job.datasets:
        return "multi_data_url", [at(url) for url in _addresses(job.datasets, "multi_data_url", "dataset_url")]
    handed = job.data or job.copy
    return "data_url" if job.data else "data_dir", [at(handed)] if handed else []


def weights_of(handed: str, name: str) -> str | None:
    """Return the weights that `ckpt_url` or `pretrain_url` hands over; None where it hands over nothing.

    Raises ValueError for a list that does not name one file.
    """
    if not handed:
        return None
    addresses = _addresses(handed, name, "model_url")
    if len(addresses) != 1:
        raise ValueError(f"{name}: expected one model, received {len(addresses)}: {some_of(map(at, addresses))}")
    return addresses[0]


def start_processes(env: Mapping[str, str] = os.environ) -> None:
    """Become one process for each device of the job; return in each of them.

    Where the platform has started them already, only the variables are completed by which they meet.
    Raises SystemExit with the exit code of the processes that were started, ValueError for variables that contradict.
    """
    cluster = find_cluster(env)
    if "RANK" in env or "OMPI_COMM_WORLD_RANK" in env:
        return
    if "RANK_ID" in env and "RANK_SIZE" in env:  # one process for each Ascend card, by a rank table
        rank, size = number_in(env, "RANK_ID"), number_in(env, "RANK_SIZE", 1, least=1)
        ranks = {"RANK": str(rank), "WORLD_SIZE": str(size)}
        os.environ.update({**cluster.variables(rank % cluster.devices), **ranks})
    elif cluster.devices == 1:
        os.environ.update(cluster.variables(0) if cluster.machines > 1 else {})
    else:
        sys.exit(launch([sys.executable, *sys.argv], cluster, env))


def find_cluster(env: Mapping[str, str]) -> Cluster:
    """Read the variables of a training container. Raises ValueError where they are no numbers or contradict."""
    hosts = [host for host in env.get("VC_WORKER_HOSTS", "").split(",") if host]
    machines = number_in(env, "MA_NUM_HOSTS", number_in(env, "VC_WORKER_NUM", len(hosts) or 1, least=1), least=1)
    index = number_in(env, "VC_TASK_INDEX") if machines > 1 else 0
    if machines > 1 and not (len(hosts) == machines and 0 <= index < machines):
        raise ValueError(
            f"MA_NUM_HOSTS is {machines}, VC_TASK_INDEX is {index} and VC_WORKER_HOSTS names {len(hosts)} machines; "
            "expected a name for each machine and an index below their number"
        )
    devices = max(1, number_in(env, "MA_NUM_GPUS"))  # 0 on a machine without accelerators
    address = hosts[0] if machines > 1 else "127.0.0.1"
    return Cluster(machines, index, devices, address, number_in(env, "MASTER_PORT", PORT, least=1, most=65535))


def _addresses(handed: str, name: str, key: str) -> list[str]:
    """The addresses of a JSON list, or the one that stands there as it is."""
    if not handed.lstrip().startswith(("[", "{")):
        return [handed]
    try:
        entries = json.loads(handed)
    except json.JSONDecodeError as error:
        raise _no_list(name, key, f"what is no JSON from character {error.pos} on") from None
    if not isinstance(entries, list):
        raise _no_list(name, key, "an entry without the brackets of a list")
    addresses = [entry.get(key) if isinstance(entry, dict) else None for entry in entries]
    lacking = [number for number, address in enumerate(addresses, 1) if not (isinstance(address, str) and address)]
    if lacking or not entries:
        raise _no_list(name, key, f"no {key} in entry {some_of(lacking)}" if lacking else "an empty list")
    return list(map(str, addresses))


def _no_list(name: str, key: str, received: str) -> ValueError:
    """A sentence on a list that tells nothing of its content, which may open what is closed."""
    return ValueError(f'{name}: expected JSON such as [{{"{key}": "obs://BUCKET/NAME"}}], received {received}')


def _inside(folder: Path | Location, data: Data) -> Path | Location:
    """The folder that the recipe means inside one that was handed over, which may be the data set itself."""
    named = Path(data.dataset_dir)
    inside = [] if named.is_absolute() or is_remote(data.dataset_dir) else [folder / str(named)]
    for candidate in (*inside, folder / named.name):
        if _is_there(candidate):
            return candidate
    return folder


def _is_there(folder: Path | Location) -> bool:
    return folder.exists() if isinstance(folder, Path) else next(iter(listing(folder)), None) is not None


def _is_archive(place: Path | Location) -> bool:
    return place.suffix.lower() == ".zip" and not (isinstance(place, Path) and place.is_dir())


def _unpacked(place: Path | Location, copy: str) -> Path | Location:
    """What was handed over, or the folder with what an archive .zip of it holds.

    copy   folder for what is unpacked; empty for the cache
    """
    if not _is_archive(place):
        return place
    folder = unpacked(place if isinstance(place, Path) else fetch_file(place), Path(copy) if copy else None)
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
