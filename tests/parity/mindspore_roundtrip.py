"""MindSpore writes, we read and write, MindSpore reads: every tensor stays the same to the last bit.

    python tests/parity/mindspore_roundtrip.py MINDSPORE_PYTHON

MINDSPORE_PYTHON is the interpreter of an environment with mindspore; it needs neither torch nor this project. Takes
3 GB of memory and 2 GB of temporary files, because one tensor is large enough to be cut into slices.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

Digests = dict[str, list]
"""Of each name: type, sides, SHA-256 of the content."""


def make(path: str) -> Digests:
    """Let MindSpore write one tensor of each kind; says what they hold."""
    import mindspore as ms
    import numpy as np

    draw = np.random.default_rng(3)
    kinds = {
        **{name: getattr(ms, name) for name in ("float32", "float16", "bfloat16", "float64", "bool_")},
        **{sign + str(bits): getattr(ms, sign + str(bits)) for sign in ("int", "uint") for bits in (8, 16, 32, 64)},
    }
    tensors = {name: ms.Tensor(draw.normal(0, 50, (2, 3, 5)), kind) for name, kind in kinds.items()}
    tensors["bits"] = ms.Tensor(draw.integers(0, 2**32, (7, 9), np.uint32).view(np.float32))  # NaN, denormal numbers
    tensors["scalar"] = ms.Tensor(-3.25, ms.float32)
    tensors["counter"] = ms.Tensor(2**53 + 1, ms.int64)
    tensors["one"] = ms.Tensor([1.5], ms.float16)
    tensors["Größe/層.重み 🙂"] = ms.Tensor([[1.0], [2.0]], ms.float32)
    tensors["n" * 300] = ms.Tensor(np.arange(200, dtype=np.int16))
    tensors["slices"] = ms.Tensor(np.arange(136_000_003, dtype=np.int32))
    listed = [{"name": name, "data": tensor} for name, tensor in tensors.items()]
    ms.save_checkpoint(listed, path + "/plain.ckpt")
    ms.save_checkpoint(listed[:-1], path + "/sealed.ckpt", crc_check=True)
    ms.save_checkpoint(listed[:-1], path + "/noted.ckpt", append_dict={"epoch_num": 3, "lr": 0.5, "note": "ünfzig"})
    return {name: _digest(tensor) for name, tensor in tensors.items()}


def load(path: str) -> Digests:
    """What MindSpore reads in a file."""
    import mindspore as ms

    return {name: _digest(tensor) for name, tensor in ms.load_checkpoint(path).items()}


def _digest(tensor) -> list:
    return [str(tensor.dtype), list(tensor.shape), hashlib.sha256(tensor.get_bytes()).hexdigest()]


def main(interpreter: str) -> None:
    import torch

    from maskrcnn.convert.mindspore_file import NAMES, read_ckpt, write_ckpt

    def ask(verb: str, path: Path) -> Digests:
        command = [interpreter, __file__, verb, str(path)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])

    def digest(tensor: torch.Tensor) -> list:
        content = tensor.contiguous().view(-1).view(torch.uint8).numpy()
        return [NAMES[tensor.dtype], list(tensor.shape), hashlib.sha256(content).hexdigest()]

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = ask("make", folder)
        for name in ("plain", "sealed", "noted"):
            theirs, ours = folder / f"{name}.ckpt", folder / "ours.ckpt"
            read = read_ckpt(theirs)
            if name != "plain":
                read["empty"] = torch.zeros(0, 3)  # MindSpore itself leaves empty tensors out, and reads ours
            expected = {tag: value for tag, value in made.items() if tag in read}
            assert len(expected) == len(made) - (name != "plain"), "a tensor is missing"
            found = {tag: digest(tensor) for tag, tensor in read.items()}
            assert found.items() >= expected.items(), "what we read is not what MindSpore wrote"
            write_ckpt(ours, read)
            assert ask("load", ours) == found, "what MindSpore reads is not what we wrote"
            size, same = theirs.stat().st_size, theirs.read_bytes() == ours.read_bytes()
            print(f"{name}: {len(read)} tensors, {size} bytes; equal both ways; files {'equal' if same else 'differ'}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps({"make": make, "load": load}[sys.argv[1]](sys.argv[2])))
    elif len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        sys.exit(__doc__)
