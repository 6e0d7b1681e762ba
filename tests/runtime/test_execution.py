"""Recorded graphs: what is replayed, what is forgotten, what is refused."""

import pytest
import torch

from maskrcnn.runtime import execution
from maskrcnn.runtime.execution import Captured, choose_algorithms, choose_execution, compiled
from maskrcnn.structures import ImageBatch

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def batch(height, width, value):
    return ImageBatch(torch.full((1, 3, height, width), value), torch.tensor([[float(height), float(width)]]))


class Counter:
    """Doubles pixels, and counts how often Python runs it."""

    calls = 0

    def __call__(self, images):
        self.calls += 1
        return {"twice": images.pixels * 2, "sizes": images.sizes + 1}


def test_the_first_call_runs_the_second_records_and_the_others_replay(tape):
    function = Counter()
    captured = Captured(function, tape)
    for value in (1.0, 2.0, 3.0, 4.0):
        results = captured(batch(4, 6, value))
        assert results["twice"].shape == (1, 3, 4, 6)
        assert (results["twice"] == 2 * value).all()
        assert results["sizes"].tolist() == [[5, 7]]
    assert (function.calls, tape.num_recorded) == (2, 1)


def test_each_combination_of_shapes_has_its_own_recording(tape):
    captured = Captured(Counter(), tape)
    for value in range(6):
        for height, width in ((4, 6), (6, 4)):
            results = captured(batch(height, width, float(value)))
            assert results["twice"].shape[2:] == (height, width)
            assert (results["twice"] == 2 * value).all()
    assert tape.num_recorded == 2


def test_what_is_not_there_is_part_of_a_recording(tape):
    """Optional tensors: with and without are two recordings."""

    def function(pair):
        return pair[0] if pair[1] is None else pair[0] + pair[1]

    captured = Captured(function, tape)
    for value in (1.0, 2.0, 3.0):
        assert captured((torch.tensor(value), None)) == value
        assert captured((torch.tensor(value), torch.tensor(10.0))) == value + 10
    assert tape.num_recorded == 2


def test_what_was_not_used_for_longest_is_forgotten(tape, monkeypatch):
    monkeypatch.setattr(execution, "MOST_GRAPHS", 2)
    captured = Captured(Counter(), tape)
    for width in (1, 1, 2, 2, 1, 3, 3, 1):  # 2 leaves when 3 comes
        captured(batch(1, width, 1.0))
    assert tape.num_recorded == 3
    captured(batch(1, 2, 1.0))
    captured(batch(1, 2, 1.0))
    assert tape.num_recorded == 4


def test_a_function_that_waits_for_the_device_cannot_be_recorded(tape):
    captured = Captured(lambda x: x * x.sum().item(), tape)
    captured(torch.ones(2))
    with pytest.raises(RuntimeError, match="waits for the device"):
        captured(torch.ones(2))


@pytest.mark.parametrize(
    ("setting", "device", "expected"),
    [("auto", CPU, "eager"), ("auto", GPU, "compiled"), ("captured", GPU, "captured"), ("compiled", CPU, "compiled")],
)
def test_auto_compiles_where_there_is_a_gpu(setting, device, expected):
    assert choose_execution(setting, device, "train.execution") == expected


def test_recording_without_a_gpu_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"train\.execution: captured needs a CUDA GPU.* set it to eager"):
        choose_execution("captured", CPU, "train.execution")


def test_a_compiled_function_takes_as_many_shapes_as_are_recorded(monkeypatch):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: real(function, backend="eager", **options))
    torch._dynamo.reset()
    double = compiled(lambda x: x * 2)
    for width in range(1, execution.MOST_GRAPHS + 1):
        assert double(torch.ones(width)).tolist() == [2.0] * width


@pytest.fixture
def switches():
    """torch's, as they were, in the end."""
    chosen, deterministic = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    yield
    torch.backends.cudnn.benchmark = chosen
    torch.use_deterministic_algorithms(deterministic)


def test_an_evaluation_leaves_a_deterministic_run_deterministic(switches, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    gpu = torch.device("cuda")
    choose_algorithms(gpu)
    assert torch.backends.cudnn.benchmark
    choose_algorithms(gpu, deterministic=True)
    choose_algorithms(gpu)
    assert not torch.backends.cudnn.benchmark


def test_what_does_not_compile_is_one_sentence_that_says_what_helps(monkeypatch):
    def fails(*_, **__):
        def call(*arguments):
            raise torch._dynamo.exc.Unsupported("No working C++ compiler found\nand 100 lines more")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(
        ValueError, match=r"No working C\+\+ compiler found\); install .* eager; MASKRCNN_DEBUG=1"
    ) as end:
        compiled(lambda x: x)(torch.ones(2))
    assert "\n" not in str(end.value)
