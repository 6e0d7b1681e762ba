"""The benchmark of fresh processes runs, and sees failures and differences."""

import json

import pytest


@pytest.mark.parametrize("name", ["train demo", "train R50", "predict R50", "eval demo"])
def test_two_fresh_processes_do_the_same_without_fault(benchmark, name):
    section = benchmark.run([name], runs=2, side=96)
    assert [(row["failed"], row["different results"]) for row in section.rows] == [(0, 1)] * len(benchmark.settings())
    assert section.notes == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["train nuclei", "predict demo"])
def test_the_other_jobs_too(benchmark, name):
    test_two_fresh_processes_do_the_same_without_fault(benchmark, name)


def test_a_process_that_fails_is_counted_and_told_of(benchmark, monkeypatch):
    monkeypatch.setitem(benchmark.JOBS, "train demo", benchmark.Job("train absent", "nothing"))
    section = benchmark.run(["train demo"], runs=1, side=64)
    assert [(row["failed"], row["different results"]) for row in section.rows] == [(1, 0)] * len(benchmark.settings())
    assert "failed with 2" in section.notes[0]


def test_metrics_are_compared_without_their_speed(benchmark):
    slow, fast = (json.dumps({"bbox": {"AP": 0.5}, "speed": {"seconds": seconds}}).encode() for seconds in (9, 1))
    assert benchmark.numbers(slow) == benchmark.numbers(fast)
    assert benchmark.numbers(slow) != benchmark.numbers(fast.replace(b"0.5", b"0.4"))
