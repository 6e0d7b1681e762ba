"""Verdicts on kernels: kept, read again, made anew for what is new, and shared by the processes of a run."""

import pytest
import torch

from maskrcnn.ops import gpu
from maskrcnn.ops.proof import OPERATORS
from maskrcnn.runtime import trust, verdicts
from maskrcnn.runtime.distributed import World

GPU = torch.device("cuda", 0)
GOOD = dict.fromkeys(OPERATORS, "")


class Machine:
    """A GPU that is not there: what it finds wrong, and how often it was asked."""

    def __init__(self):
        self.faults, self.num_proofs = GOOD, 0
        self.names, self.versions = ["GPU X", "GPU X"], {"triton": "3.6", "maskrcnn": "1.0"}

    def prove(self, device):
        self.num_proofs += 1
        return self.faults


@pytest.fixture
def machine(monkeypatch, tmp_path):
    found = Machine()
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu, "has_triton", lambda: True)
    monkeypatch.setattr(trust, "has_triton", lambda: True)
    monkeypatch.setattr(trust, "faults", found.prove)
    monkeypatch.setattr(trust, "_version", lambda package: found.versions[package])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda one: found.names[getattr(one, "index", one)])
    yield found
    gpu.replace_kernels(())


def trusted(world=None):
    """What a process is told, and which operators run by their definitions in it."""
    told = []
    trust.trust_kernels(world or World(GPU), told.append)
    return told, [name for name in OPERATORS if not gpu.uses_kernel(name)]


def test_a_kernel_that_differs_is_replaced_with_a_sentence_and_good_ones_are_kept(machine):
    machine.faults = {**GOOD, "nms": "differs by 1.0e-02 where 0e+00 is allowed (nms)"}
    told, replaced = trusted()
    assert replaced == ["nms"]
    assert len(told) == 1
    assert told[0].startswith(
        "nms runs by its definition in plain PyTorch, right but slower: its kernel differs by 1.0e-02"
    )
    assert "report this line" in told[0]
    assert "GPU X" in told[0]


def test_good_kernels_are_trusted_without_a_word(machine):
    assert trusted() == ([], [])
    assert machine.num_proofs == 1


def test_the_verdict_is_read_again_and_its_sentence_told_again(machine):
    machine.faults = {**GOOD, "paste": "raised RuntimeError: no"}
    first, second = trusted(), trusted()
    assert first == second
    assert second[1] == ["paste"]
    assert machine.num_proofs == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda machine, patch: machine.versions.update(maskrcnn="1.1"),
        lambda machine, patch: machine.versions.update(triton="3.7"),
        lambda machine, patch: machine.names.__setitem__(0, "GPU Y"),
        lambda machine, patch: patch.setattr(torch, "__version__", "9.9"),
        lambda machine, patch: patch.setattr(trust, "_driver", lambda: "another"),
        lambda machine, patch: patch.setattr(trust, "_hash_of_kernels", lambda: "another"),
    ],
    ids=["version", "triton", "device", "torch", "driver", "sources"],
)
def test_what_is_new_is_proved_anew(machine, monkeypatch, change):
    trusted()
    change(machine, monkeypatch)
    trusted()
    assert machine.num_proofs == 2


def test_a_changed_line_of_a_kernel_changes_the_hash(monkeypatch, tmp_path):
    monkeypatch.setattr(trust.ops, "__path__", [str(tmp_path)])
    (tmp_path / "nms").mkdir()
    (tmp_path / "nms" / "triton.py").write_text("BLOCK = 64\n")
    before = trust._hash_of_kernels()
    assert trust._hash_of_kernels() == before
    (tmp_path / "nms" / "triton.py").write_text("BLOCK = 32\n")
    assert trust._hash_of_kernels() != before


@pytest.mark.parametrize("content", [b"", b"{", b'{"of": {}, "faults": {}}', b'{"of": 1}', b"\xff\x00"])
def test_a_damaged_verdict_is_made_anew(machine, content):
    trusted()
    path = verdicts._path(trust.Proof, trust.facts(GPU))
    path.write_bytes(content)
    assert trusted() == ([], [])
    assert machine.num_proofs == 2
    assert trust.known_proof(GPU).faults == GOOD  # and is whole again


def test_without_a_place_to_keep_it_the_verdict_is_made_each_time(machine, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "file" / "below"))
    assert trusted() == trusted() == ([], [])
    assert machine.num_proofs == 2


def test_a_lack_of_memory_is_no_lasting_verdict(machine):
    machine.faults = {**GOOD, "nms": "raised OutOfMemoryError: CUDA out of memory"}
    assert trusted()[1] == ["nms"]
    machine.faults = GOOD
    assert trusted() == ([], [])


def test_a_proof_can_be_repeated(machine):
    machine.faults = {**GOOD, "nms": "raised RuntimeError: no"}
    trusted()
    machine.faults = GOOD
    assert trust.proof_of(GPU).faults != GOOD
    assert trust.proof_of(GPU, again=True).faults == GOOD
    assert trusted() == ([], [])


class Crowd(World):
    """One of several processes; the others say of these operators that they fail."""

    others = ()

    def any(self, flag):
        asked = OPERATORS[len(self.__dict__.setdefault("asked", []))]
        self.__dict__["asked"].append(flag)
        return flag or asked in self.others


def test_only_the_first_process_with_a_kind_of_gpu_proves(machine):
    first, second = Crowd(GPU, 0, 2, 0), Crowd(torch.device("cuda", 1), 1, 2, 1)
    trusted(first)
    assert machine.num_proofs == 1
    trusted(second)
    assert machine.num_proofs == 1
    assert len(first.asked) == len(second.asked) == len(OPERATORS)  # nobody is kept waiting
    machine.names[1] = "GPU Y"
    trusted(Crowd(torch.device("cuda", 1), 1, 2, 1))
    assert machine.num_proofs == 2


def test_what_fails_in_one_process_is_replaced_in_all(machine):
    world = Crowd(torch.device("cuda", 1), 1, 2, 1)
    world.__dict__["others"] = ("match",)
    told, replaced = trusted(world)
    assert replaced == ["match"]
    assert "failed in another process of this run" in told[0]


@pytest.mark.parametrize("kind", ["cpu", "mps", "xpu"])
def test_what_has_no_triton_kernels_is_not_proved(machine, kind):
    assert trusted(World(torch.device(kind))) == ([], [])
    assert machine.num_proofs == 0
