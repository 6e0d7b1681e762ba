import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from maskrcnn.runtime import heartbeat
from maskrcnn.runtime.heartbeat import Heart, Pulse, join, listen, seconds_used, this_machine

SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = """
import itertools, sys, time
from pathlib import Path
from maskrcnn.runtime import heartbeat

heartbeat.PATIENCE, heartbeat.LATER, heartbeat.PERIOD = 3.0, 1.0, 0.2
folder, rank = Path(sys.argv[1]), int(sys.argv[2])

def share(numbers):
    if rank == 0:
        (folder / "draft").write_text(" ".join(str(int(number)) for number in numbers))
        (folder / "draft").rename(folder / "numbers")
    while not (folder / "numbers").exists():
        time.sleep(0.05)
    return [int(number) for number in (folder / "numbers").read_text().split()]

heart = heartbeat.join(rank, 2, "127.0.0.1", share)
heart.doing = f"training, step {rank + 17}"
heart.tell = lambda sentence: print("told:", sentence)
print("ready", flush=True)
for line in sys.stdin:
    begin = time.monotonic()
    sum(itertools.repeat(1, 10**7))
    per_number = (time.monotonic() - begin) / 10**7
    sum(itertools.repeat(1, int(float(line) / per_number)))  # one call, which leaves the interpreter's lock to nobody
    print("computed", flush=True)
heart.stop()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@pytest.fixture
def pair(tmp_path):
    """Two processes that beat, and wait for lines."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    processes = [subprocess.Popen([*command, str(rank)], env=env, **pipes) for rank in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    time.sleep(0.5)  # a beat
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


@linux
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_stopped_is_named_and_all_end(pair, rank):
    stopped, other = pair[rank], pair[1 - rank]
    stopped.send_signal(signal.SIGSTOP)
    assert (other.wait(30), stopped.wait(5)) == (2, -signal.SIGKILL)
    out, error, host = other.stdout.read(), other.stderr.read(), socket.gethostname()
    sentence = (
        f"process {rank} of 2 (pid {stopped.pid} on {host}) hangs or was stopped: it was not heard of for 3 seconds; "
        f"the last that it said was: training, step {rank + 17}. All processes of the run end\n"
    )
    assert (error, out) == (f"error: {sentence}", f"told: failed: {sentence}")


@linux
def test_processes_that_are_stopped_together_or_compute_without_a_pause_go_on(pair):
    for process in pair:
        process.send_signal(signal.SIGSTOP)
    pair[0].stdin.write("5\n")  # longer than the other one's patience
    pair[0].stdin.flush()
    time.sleep(4)
    for process in pair:
        process.send_signal(signal.SIGCONT)
    assert pair[0].stdout.readline() == "computed\n"
    results = [process.communicate(timeout=10) for process in pair]
    assert ([process.returncode for process in pair], results) == ([0, 0], [("", "")] * 2)


@pytest.fixture
def first(monkeypatch):
    """The first process's heart of two with what it noticed, a line to it, and what writes pulses of the second one."""
    ended = []
    monkeypatch.setattr(heartbeat, "PERIOD", 0.05)
    monkeypatch.setattr(heartbeat, "PATIENCE", 0.5)
    monkeypatch.setattr(Heart, "_end", lambda self, hung: (self.stop(), ended.append(hung)))
    shared = []
    heart = join(0, 2, "127.0.0.1", lambda numbers: shared.append(numbers) or numbers)
    port, secret = shared[0]

    def pulse(**changed):
        usual = {"rank": 1, "host": "gpu2", "machine": "another", "pid": 7, "doing": "evaluating", "secret": secret}
        return msgspec.json.encode(Pulse(**{**usual, **changed})) + b"\n"

    line = socket.create_connection(("127.0.0.1", port))
    yield SimpleNamespace(heart=heart, ended=ended, line=line, pulse=pulse, port=port)
    heart.stop()


def test_a_process_of_another_machine_is_missed_with_what_it_did_last(first):
    first.line.send(first.pulse()[:40])
    first.line.send(first.pulse()[40:] + first.pulse(doing="saving after step 9"))
    time.sleep(1.5)
    assert [(one.rank, one.host, one.doing) for one in first.ended[0]] == [(1, "gpu2", "saving after step 9")]


def test_a_process_that_speaks_is_not_missed_and_hears_the_first_one(first):
    first.heart.doing = "evaluating"
    for _ in range(10):
        first.line.send(first.pulse())
        time.sleep(0.1)
    assert first.ended == []
    heard = json.loads(first.line.recv(100_000).splitlines()[-1])
    assert (heard["rank"], heard["pid"], heard["doing"]) == (0, os.getpid(), "evaluating")


def test_a_process_that_left_is_not_missed(first):
    first.line.send(first.pulse())
    first.line.close()
    time.sleep(1.0)
    assert first.ended == []


@pytest.mark.parametrize("content", [b"GET / HTTP/1.1\r\n\r\n", None, b"x" * 200_000])
def test_a_stranger_is_not_listened_to(first, content):
    first.line.sendall(first.pulse(secret=1, hung=[("another", 1)]) if content is None else content)
    first.line.settimeout(5.0)
    with pytest.raises(ConnectionResetError) if content and len(content) > 1000 else pytest.MonkeyPatch().context():
        while first.line.recv(100_000):
            pass
    time.sleep(0.8)
    assert first.ended == []


def test_who_cannot_reach_the_first_process_goes_on_with_a_warning():
    with listen(alone=True, size=2) as ear:
        port = ear.getsockname()[1]
    with pytest.warns(UserWarning, match=f"process 1 of 2 cannot reach port {port} of 127.0.0.1 .*open the ports"):
        assert join(1, 2, "127.0.0.1", lambda _: [port, 5]) is None


@linux
def test_a_stopped_process_uses_no_time_that_is_known():
    with subprocess.Popen(["sleep", "60"]) as process:
        assert seconds_used(process.pid) is not None
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        assert seconds_used(process.pid) is None
        process.kill()
    assert seconds_used(2**22 + 1) is None
    assert this_machine() == this_machine() != ""
