import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from maskrcnn.runtime import distributed
from maskrcnn.runtime.devices import choose_device
from maskrcnn.runtime.distributed import World, share_cpus
from maskrcnn.runtime.heartbeat import join
from maskrcnn.runtime.meeting import meeting_point
from maskrcnn.runtime.ranks import Ranks, find_ranks, first_node, was_restarted

SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = """
import json, sys, torch
from torch import nn
from maskrcnn.models.layers import SyncBatchNorm
from maskrcnn.runtime import distributed

def normalise(x, weights):
    norm = SyncBatchNorm(2)
    nn.init.constant_(norm.weight, 1.5)
    x = x.clone().requires_grad_()
    norm(x.detach())  # each batch has a graph of its own
    (norm(x, relu=True) * weights).sum().backward()
    tensors = (norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.weight.grad, norm.bias.grad, x.grad)
    return [tensor.tolist() for tensor in tensors]

with distributed.start("cpu") as world:
    distributed.BUCKET_ELEMENTS = 5
    tensors = [torch.full((2, 3), world.rank + 1.0), torch.tensor([float(world.rank)])]
    tensors[0] = tensors[0].T  # not contiguous
    world.all_reduce_mean(tensors)
    model = nn.Conv2d(2, 3, (1, 2)).to(memory_format=torch.channels_last)
    nn.init.constant_(model.weight, world.rank + 7.0)
    world.broadcast(model)
    x, weights = (torch.rand(5, 2, 3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    mine = slice(0, 2) if world.rank == 0 else slice(2, 5)  # shares of two sizes
    told = {
        "normalised": normalise(x[mine] + 100, weights[mine]),
        "rank": world.rank,
        "is_main": world.is_main,
        "mean": [tensor.tolist() for tensor in tensors],
        "broadcast": model.weight.unique().tolist(),
        "any": [world.any(world.rank == 1), world.any(False)],
        "from_main": world.from_main([0.1, 3.0] if world.is_main else [0.0, 0.0]),
        "bytes": [part.decode() for part in world.gather_bytes(b"x" * 3 * world.rank)],
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(told), flush=True)
    if world.rank == 1:
        sys.exit("process 1 has had enough")
    world.barrier()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(**variables: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "PMIX", "MASTER"))}
    return {**kept, "PYTHONPATH": str(SOURCE), **{name: str(value) for name, value in variables.items()}}


def check(told: list[dict], errors: str) -> None:
    told = sorted(told, key=lambda one: one["rank"])
    for rank, one in enumerate(told):
        assert one["is_main"] == (rank == 0)
        assert one["mean"] == [[[1.5, 1.5]] * 3, [0.5]]
        assert one["broadcast"] == [7.0]
        assert one["any"] == [True, False]
        assert one["from_main"] == [0.1, 3.0]
        assert one["bytes"] == (["", "xxx"] if rank == 0 else [])
        assert one["threads"] == max(1, len(os.sched_getaffinity(0)) // 2)
    assert len(told) == 2
    check_norms(told)
    assert "process 1 has had enough" in errors
    assert re.search(r"process 0 of 2 lost the others: one of them stopped, .* \([^/]*\)$", errors, re.MULTILINE)


def check_norms(told: list[dict]) -> None:
    """Statistics, outputs' gradients and all else are those of torch's batch norm on the joint batch."""
    x, weights = (torch.rand(5, 2, 3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    norm = torch.nn.BatchNorm2d(2)
    torch.nn.init.constant_(norm.weight, 1.5)
    x = (x + 100).requires_grad_()
    norm(x.detach())
    (norm(x).relu() * weights).sum().backward()
    shared = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    first, second = ([torch.tensor(one) for one in part["normalised"]] for part in told)
    for found in (first, second):
        torch.testing.assert_close(found[:3], [tensor.detach() for tensor in shared], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first[3] + second[3], norm.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first[4] + second[4], norm.bias.grad)
    torch.testing.assert_close(torch.cat([first[5], second[5]]), x.grad, rtol=1e-4, atol=1e-4)


def test_two_processes_work_as_one_and_end_together():
    common = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=environment(RANK=rank, **common),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    check([json.loads(out) for out, _ in results], "".join(error for _, error in results))


LEAVES = """
import os, sys, torch
from pathlib import Path
from maskrcnn.runtime import distributed

alone = distributed.Ranks(rank=0, size=1, local_rank=0, local_size=1)
distributed.meet(os.environ, alone, torch.device("cpu"))
import torch.distributed.nn.functional  # what an optimizer does in its first step
distributed.World(torch.device("cpu"), size=2).close()
print([thread.read_text().strip() for thread in Path("/proc/self/task").glob("*/comm")])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at threads in /proc")
def test_a_group_that_was_left_has_no_threads_that_could_hang_the_end():
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    variables |= {"RANK": 0, "WORLD_SIZE": 1}
    done = subprocess.run(
        [sys.executable, "-c", LEAVES], env=environment(**variables), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "gloo" not in done.stdout


def mpirun() -> str:
    found = shutil.which("mpirun") or shutil.which("mpirun", path=Path(sys.executable).parent)
    if found is None:
        pytest.skip("mpirun is not installed")
    return found


def test_two_processes_meet_under_mpirun_without_being_told_where():
    command = [mpirun(), "--allow-run-as-root", "-n", "2", "--map-by", ":OVERSUBSCRIBE", "--bind-to", "core"]
    result = subprocess.run(
        [*command, sys.executable, "-c", PROGRAM], env=environment(), capture_output=True, text=True, timeout=60
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    assert result.returncode != 0
    told = [json.loads(line) for line in lines]
    assert sorted(one["rank"] for one in told) == [0, 1]
    assert all(one["any"] == [True, False] for one in told)
    assert all(one["threads"] == max(1, len(os.sched_getaffinity(0)) // 2) for one in told)
    assert "process 1 has had enough" in result.stderr


def test_one_process_is_a_world():
    world = World(torch.device("cpu"))
    tensor = torch.ones(2)
    world.all_reduce_mean([tensor])
    assert tensor.tolist() == [1, 1]
    assert world.gather_bytes(b"ab") == [b"ab"]
    assert (world.any(True), world.any(False), world.is_main) == (True, False, True)


def test_a_world_of_several_tells_its_heart_what_it_does():
    heart = join(0, 2, "127.0.0.1", lambda numbers: numbers)
    with World(torch.device("cpu"), heart=heart) as world:
        world.doing("evaluating")
        world.on_hang(print)
        assert (heart.doing, heart.tell, heart._stopped.is_set()) == ("evaluating", print, False)
    assert heart._stopped.is_set()


def test_launchers_tell_the_place():
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    openmpi = {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in zip(names, (5, 8, 1, 4), strict=True)}
    assert find_ranks({}) == Ranks(0, 1, 0, 1)
    assert find_ranks(torchrun) == Ranks(3, 4, 1, 2)
    assert find_ranks(openmpi) == Ranks(5, 8, 1, 4)
    assert find_ranks({**openmpi, **torchrun}) == Ranks(3, 4, 1, 2)


SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
    "SLURM_STEP_NODELIST": "gpu[07-09,12]",
}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}


def test_srun_and_mpich_tell_the_place():
    assert find_ranks(SLURM) == Ranks(5, 7, 1, 2)
    assert find_ranks({**SLURM, "SLURM_NODEID": "3"}) == Ranks(5, 7, 1, 1)
    assert find_ranks(MPICH) == Ranks(1, 2, 1, 2)


def test_the_innermost_launcher_counts():
    """`srun -n 2 mpirun ...` and `srun -n 2 torchrun ...` leave the variables of `srun` to their processes."""
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert find_ranks({**SLURM, **MPICH}) == Ranks(1, 2, 1, 2)
    assert find_ranks({**SLURM, "PMI_RANK": "5", "PMI_SIZE": "7"}) == Ranks(5, 7, 1, 2)  # srun --mpi=pmi2
    assert find_ranks({**SLURM, **MPICH, **torchrun}) == Ranks(3, 4, 1, 2)


@pytest.mark.parametrize(
    "shell",
    [
        {"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"},  # sbatch -n 4
        {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4"},  # salloc -n 4
        {**SLURM, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},  # srun -n 1 --pty bash
    ],
)
def test_the_shell_of_a_slurm_job_is_one_process_however_many_tasks_the_job_has(shell):
    assert find_ranks(shell) == Ranks(0, 1, 0, 1)


def test_tasks_of_slurm_meet_on_the_first_machine_of_their_step():
    address = meeting_point(SLURM, Ranks(5, 7, 1, 2))
    assert re.fullmatch(r"tcp://gpu07:(2|3)\d{4}", address)
    assert address != meeting_point({**SLURM, "SLURM_STEP_ID": "1"}, Ranks(5, 7, 1, 2))
    assert meeting_point({**SLURM, "MASTER_ADDR": "a", "MASTER_PORT": "9"}, Ranks(5, 7, 1, 2)) == "tcp://a:9"
    assert meeting_point(SLURM, Ranks(0, 2, 0, 2)).startswith("tcp://127.0.0.1:")


def test_processes_of_mpich_on_one_machine_meet_at_a_port_of_their_parent():
    address = meeting_point(MPICH, Ranks(1, 2, 1, 2))
    assert re.fullmatch(r"tcp://127\.0\.0\.1:(2|3)\d{4}", address)
    assert address == meeting_point({**MPICH, "PMI_RANK": "0"}, Ranks(0, 2, 0, 2))


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu[01-04,7]", "gpu01"),
        ("a-b.c[7,9],login", "a-b.c7"),
        ("rack[2-3]n[10-12]x", "rack2n10x"),
    ],
)
def test_the_first_machine_of_a_list_of_slurm(nodes, first):
    assert first_node(nodes) == first


def test_a_group_that_was_started_again_knows_it():
    assert [was_restarted({"TORCHELASTIC_RESTART_COUNT": count}) for count in ("0", "2")] == [False, True]
    assert not was_restarted({})


def test_a_rank_outside_the_world_is_refused():
    with pytest.raises(ValueError, match="RANK is 2 and WORLD_SIZE is 2; ranks run from 0 to 1"):
        find_ranks({"RANK": "2", "WORLD_SIZE": "2"})


MPI = {"OMPI_COMM_WORLD_RANK": "0", "PMIX_NAMESPACE": "prterun-host-4924@1"}


def test_processes_of_one_machine_meet_in_a_file_of_their_job(tmp_path):
    env = {**MPI, "PMIX_SERVER_TMPDIR": str(tmp_path)}
    address = meeting_point(env, Ranks(0, 2, 0, 2))
    assert address.startswith(f"file://{tmp_path}/maskrcnn-")
    assert address != meeting_point({**env, "PMIX_NAMESPACE": "prterun-host-4924@2"}, Ranks(0, 2, 0, 2))


def test_processes_of_several_machines_meet_at_a_port_of_their_job(tmp_path):
    env = {**MPI, "PMIX_SERVER_TMPDIR": str(tmp_path), "MASTER_ADDR": "node7"}
    first, last = meeting_point(env, Ranks(0, 4, 0, 2)), meeting_point(env, Ranks(3, 4, 1, 2))
    assert first == last
    assert first.startswith("tcp://node7:")
    assert 20000 <= int(first.rsplit(":", 1)[1]) < 32000


def test_a_given_port_is_taken():
    assert meeting_point({**MPI, "MASTER_PORT": "1234"}, Ranks(0, 2, 0, 2)) == "tcp://127.0.0.1:1234"
    given = {"RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert meeting_point(given, Ranks(0, 2, 0, 2)) == "env://"


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR or MASTER_PORT is not"),
        (MPI, "add `-x MASTER_ADDR="),
        (MPICH, "add `-genv MASTER_ADDR <its name"),
        ({**MPICH, "MASTER_ADDR": "node7"}, "add `-genv MASTER_PORT <a free port"),
        ({"OMPI_COMM_WORLD_RANK": "0", "MASTER_ADDR": "node7"}, "add `-x MASTER_PORT="),
    ],
)
def test_an_environment_that_does_not_say_enough_is_refused_with_what_to_add(env, sentence):
    with pytest.raises(ValueError, match=sentence):
        meeting_point(env, Ranks(0, 4, 0, 2))


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", 3) == choose_device("cpu", 3) == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device=gpu: .* 0 are visible; check `nvidia-smi`"):
        choose_device("gpu", 0)
    with pytest.raises(ValueError, match="device=ascend needs the package torch_npu"):
        choose_device("ascend", 0)


def test_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"process 2 of this machine .* 2 are visible; start at most 2 processes"):
        choose_device("gpu", 2)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not say which cores a process has")
@pytest.mark.parametrize(
    ("env", "changes"),
    [
        ({}, True),
        ({"OMP_NUM_THREADS": "3"}, False),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none"}, True),
        ({"OMP_NUM_THREADS": "2", "TORCHELASTIC_RUN_ID": "none"}, False),
    ],
)
def test_threads_are_shared_unless_somebody_chose_their_number(env, changes, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    share_cpus(env, local_size=1)
    assert chosen == ([len(os.sched_getaffinity(0))] if changes else [])


def test_who_waits_long_for_the_others_says_so_with_its_host_and_who_meets_them_says_nothing(monkeypatch, capfd):
    device, env = torch.device("cpu"), {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *_, **__: time.sleep(0.3))
    distributed.meet(env, Ranks(0, 2, 0, 2), device)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(distributed, "LATE", 0.05)
    distributed.meet(env, Ranks(0, 2, 0, 2), device)
    assert re.fullmatch(
        rf"warning: process 0 of 2 \(pid {os.getpid()} on {socket.gethostname()}\) still waits for the others at .*\n",
        capfd.readouterr().err,
    )
