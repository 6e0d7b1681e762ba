"""Which number type a processor is tried with."""

import pytest
import torch

from maskrcnn import trial


@pytest.fixture(autouse=True)
def afresh():
    trial.fastest_on_processor.cache_clear()
    yield
    trial.fastest_on_processor.cache_clear()


def test_without_bf16_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(trial, "processor_has_bf16", lambda: False)
    monkeypatch.setattr(trial, "_seconds", lambda dtype: pytest.fail("tried"))
    assert trial.fastest_on_processor() == torch.float32


@pytest.mark.parametrize("faster", [torch.float32, torch.bfloat16])
def test_with_bf16_the_faster_one_is_taken_and_tried_once(faster, monkeypatch):
    asked = []

    def seconds(dtype):
        asked.append(dtype)
        return 1.0 if dtype == faster else 2.0

    monkeypatch.setattr(trial, "processor_has_bf16", lambda: True)
    monkeypatch.setattr(trial, "_seconds", seconds)
    assert [trial.fastest_on_processor() for _ in range(2)] == [faster] * 2
    assert asked == [torch.float32, torch.bfloat16]


def test_a_trial_takes_some_time():
    assert 0 < trial._seconds(torch.float32) < 60
