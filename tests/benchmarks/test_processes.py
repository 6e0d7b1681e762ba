"""The benchmark of fresh processes runs, and sees failures and differences."""

import json

import pytest

SIDE = 96


@pytest.fixture(scope="module")
def places(benchmark, tmp_path_factory):
    return benchmark.prepare(tmp_path_factory.mktemp("places"), SIDE)


@pytest.fixture(autouse=True)
def prepared(benchmark, places, monkeypatch):
    """What is drawn once serves all tables."""
    monkeypatch.setattr(benchmark, "prepare", lambda folder, side: places)


def check(benchmark, name, **how):
    section = benchmark.run([name], runs=2, side=SIDE, **how)
    assert section.rows
    assert {(row["failed"], row["different results"]) for row in section.rows} == {(0, 1)}
    assert section.notes == []


def test_two_fresh_processes_do_the_same_without_fault(benchmark, monkeypatch):
    job = benchmark.JOBS["train demo"]
    assert "train.max_steps=20 " in job.command
    shorter = job._replace(command=job.command.replace("train.max_steps=20", "train.max_steps=2"))
    monkeypatch.setitem(benchmark.JOBS, "train demo", shorter)
    monkeypatch.setattr(benchmark, "cpu_has_bf16", lambda: False)
    check(benchmark, "train demo", threads=[2])


@pytest.mark.exhaustive
def test_so_do_those_of_every_job_on_one_thread_and_two(benchmark):
    for name in benchmark.JOBS:
        check(benchmark, name)


def test_a_process_that_fails_is_counted_and_told_of(benchmark, monkeypatch):
    monkeypatch.setitem(benchmark.JOBS, "train demo", benchmark.Job("train absent", "nothing"))
    section = benchmark.run(["train demo"], runs=1, side=SIDE, threads=[1])
    assert {(row["failed"], row["different results"]) for row in section.rows} == {(1, 0)}
    assert "failed with 2" in section.notes[0]


def test_metrics_are_compared_without_their_speed(benchmark):
    slow, fast = (json.dumps({"bbox": {"AP": 0.5}, "speed": {"seconds": seconds}}).encode() for seconds in (9, 1))
    assert benchmark.numbers(slow) == benchmark.numbers(fast)
    assert benchmark.numbers(slow) != benchmark.numbers(fast.replace(b"0.5", b"0.4"))
