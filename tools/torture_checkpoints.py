"""Flip bits and cut files of a checkpoint at random places: none may be used in silence.

    python tools/torture_checkpoints.py [--flips 1000] [--cuts 100] [--seed 1] [CHECKPOINT]

Without a checkpoint a small one is written. Prints how many were refused; ends with 1 where one was not.
"""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from maskrcnn.train import checkpoint


def write(folder: Path) -> Path:
    """A checkpoint of a few tensors, with all that a state holds."""
    tensors = {name: torch.randn(4, 3, generator=torch.Generator().manual_seed(1)) for name in ("a.weight", "b.bias")}
    course = {"loss": 0.1 + 0.2, "course": {"lowest": 1 / 3, "recent": [2 / 3], "sound": [40, 60]}}
    state = {"recipe": {"name": "tiny", "data": {"short_sides": (64,)}}, "data": {"images": 8}, **course}
    return checkpoint.save(folder, 60, {"model": tensors, "optimizer": tensors}, state, keep=1)


def is_noticed(whole: Path, copy: Path, number: int, flips: int, choose: random.Random) -> bool:
    """Whether a copy is refused in which the first `flips` of all numbers have another bit, and the others a cut."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    file = choose.choice(sorted(copy.iterdir()))
    content = bytearray(file.read_bytes())
    place = choose.randrange(len(content))
    if number < flips:
        content[place] ^= 1 << choose.randrange(8)
    else:
        del content[place:]
    file.write_bytes(content)
    try:
        checkpoint.read(copy)
    except checkpoint.Damaged:
        return True
    print(f"used in silence: {file.name}, byte {place}", file=sys.stderr)
    return False


def torture(whole: Path, flips: int, cuts: int, seed: int) -> int:
    """How many damaged copies of a checkpoint were noticed."""
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / whole.name
        return sum(is_noticed(whole, copy, number, flips, choose) for number in range(flips + cuts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole = options.checkpoint or write(Path(folder))
        noticed = torture(whole, options.flips, options.cuts, options.seed)
    print(f"{noticed} of {options.flips + options.cuts} damaged checkpoints were noticed")
    sys.exit(noticed != options.flips + options.cuts)


if __name__ == "__main__":
    main()
