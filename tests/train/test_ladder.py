"""Training goes on, one rung down, where a way to run does not hold: with the weights that eager steps lead to."""

import pytest
import torch
from torch import nn

from maskrcnn.config import Optimizer
from maskrcnn.models.layers import BatchNorm
from maskrcnn.runtime import ladder
from maskrcnn.runtime.distributed import World
from maskrcnn.runtime.memory import explain_out_of_memory
from maskrcnn.runtime.precision import Precision
from maskrcnn.structures import ImageBatch, MicroBatch, Targets
from maskrcnn.train.optimizer import build_optimizer, state_tensors
from maskrcnn.train.step import Losses, Updater, losses_apart

CPU = World(torch.device("cpu"))
FLOAT32 = Precision("cpu", torch.float32)
AUTO = ladder.RUNGS
NUM_STEPS = 6


@pytest.fixture(autouse=True)
def _nothing_failed_yet(monkeypatch):
    monkeypatch.setattr(ladder, "_failed", set())


class Net(nn.Module):
    """Two losses, over a live batch norm; keys make noise, as in sampling."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.layer = BatchNorm(3), nn.Linear(18, 2)

    def losses(self, images: ImageBatch, targets: Targets, keys: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.layer(self.norm(images.pixels).flatten(1)) + keys.float().mean() / 100
        return {"a": out[:, 0].square().mean(), "count/n": keys.float().sum(), "b": (out[:, 1] - 1).abs().mean()}


def batch(number: int, width: int = 3) -> MicroBatch:
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randn(4, 3, 6 // width, width, generator=generator)
    no = torch.zeros(4, 1, dtype=torch.bool)
    edges, first = torch.zeros(4, 1, 4), torch.zeros(4, 2, dtype=torch.int64)
    targets = Targets(torch.zeros(4, 1, 4), no.long(), no, no, edges, first)
    return MicroBatch(ImageBatch(pixels, torch.ones(4, 2)), targets, torch.arange(4) + number)


def learn(rungs=("eager",), recorder=None, *, world=CPU, kind="sgd", net=None, widths=(3, 2)):
    """Losses, final state, sentences, and the updater, after some steps over two shapes in turn."""
    net = net or Net().train()
    optimizer = build_optimizer(net, Optimizer(kind=kind, lr=0.05), rate_on_device=recorder is not None)
    told = []
    update = Updater(net, optimizer, world=world, precision=FLOAT32, clip_norm=5.0, rungs=rungs, recorder=recorder,
                     say=told.append)  # fmt: skip
    losses = [update([batch(number, widths[number % len(widths)])]).mean for number in range(NUM_STEPS)]
    state = {**net.state_dict(), **{f"optimizer/{k}": v for k, v in state_tensors(optimizer, net).items()}}
    return torch.stack(losses), {name: value.clone() for name, value in state.items()}, told, update


def assert_as_eager(losses, state, kind="sgd"):
    expected, expected_state, _, _ = learn(kind=kind)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    assert state.keys() == expected_state.keys()
    for name, value in expected_state.items():
        torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6, check_device=False)


class Recorder:
    """A tape that can fail when it records, after the function has run, or whose replays go wrong."""

    def __init__(self, tape, *, record=None, after_run=None, replay=None):
        self.tape, self.failing = tape, {"record": record, "after_run": after_run, "replay": replay}

    def run(self, function):
        results = function()
        if self.failing["after_run"] is not None:
            raise self.failing["after_run"]
        return results

    def record(self, function):
        if self.failing["record"] is not None:
            raise self.failing["record"]
        results, replay = self.tape.record(function)
        wrong = self.failing["replay"]

        def replay_wrongly():
            replay()
            with torch.no_grad():
                results.mean[:1] *= wrong

        return results, replay if wrong is None else replay_wrongly


def compiles_to(monkeypatch, compiler):
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiler(function))


def no_compiler(function):
    def call(*arguments):
        raise RuntimeError("no C++ compiler\nand a long trace")

    return call


def out_of_memory(function):
    def call(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory while tuning")

    return call


def scaled(factor):
    return lambda function: lambda *arguments: {k: v * factor for k, v in function(*arguments).items()}


def half_the_gradient(function):
    return lambda *arguments: {k: v.detach() + 0.5 * (v - v.detach()) for k, v in function(*arguments).items()}


def test_what_holds_stays_on_the_first_rung_without_a_word(monkeypatch, tape):
    compiles_to(monkeypatch, lambda function: function)
    losses, state, told, update = learn(AUTO, tape)
    assert_as_eager(losses, state)
    assert (told, update.execution, tape.num_recorded) == ([], "compiled", 2)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (no_compiler, "RuntimeError: no C++ compiler)"),
        (out_of_memory, "OutOfMemoryError: CUDA out of memory while tuning)"),
        (scaled(1.2), "e-01, where 0.01 is allowed)"),
        (scaled(float("nan")), "differ from those line by line by inf"),
        (half_the_gradient, "differ from those line by line by 5.0e-02"),
    ],
    ids=["no compiler", "memory", "losses", "NaN", "gradient"],
)
def test_what_cannot_be_compiled_or_compiles_wrongly_is_recorded(monkeypatch, tape, compiler, reason, kind):
    compiles_to(monkeypatch, compiler)
    losses, state, told, update = learn(AUTO, tape, kind=kind)
    assert_as_eager(losses, state, kind)
    assert (update.execution, tape.num_recorded, len(told)) == ("captured", 2, 1)
    assert told[0].startswith("train.execution: captured from here on, since compiled does not hold on this machine (")
    assert reason in told[0]
    assert told[0].endswith("train.execution=compiled shows the whole error, train.execution=captured skips the trial")


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ({"record": RuntimeError("operation not permitted when stream is capturing")}, "not permitted when stream"),
        ({"record": torch.OutOfMemoryError("CUDA out of memory")}, "OutOfMemoryError"),
        ({"replay": 1.5}, "differ from those line by line"),
    ],
    ids=["refused", "memory", "wrong replay"],
)
def test_what_cannot_be_recorded_or_replays_wrongly_runs_line_by_line(monkeypatch, tape, failing, reason):
    compiles_to(monkeypatch, no_compiler)
    losses, state, told, update = learn(AUTO, Recorder(tape, **failing))
    assert_as_eager(losses, state)
    assert update.execution == "eager"
    assert [sentence.split(" from here on")[0] for sentence in told] == [
        "train.execution: captured",
        "train.execution: eager",
    ]
    assert reason in told[1]


def test_a_failure_in_the_middle_leaves_no_trace(tape):
    """Weights, momentum and statistics had been changed when it came."""

    class Late(Recorder):
        calls = 0

        def run(self, function):
            self.calls += 1
            results = function()
            if self.calls == 2:  # the first is what is compared with
                raise RuntimeError("too late")
            return results

    losses, state, told, update = learn(("captured", "eager"), Late(tape))
    assert_as_eager(losses, state)
    assert "too late" in told[0]
    assert update.execution == "eager"


@pytest.mark.parametrize("rung", ["compiled", "captured"])
def test_a_named_setting_is_insisted_on(monkeypatch, tape, rung):
    compiles_to(monkeypatch, no_compiler)
    recorder = Recorder(tape, record=RuntimeError("not permitted"))
    with pytest.raises(RuntimeError, match="no C" if rung == "compiled" else "not permitted"):
        learn((rung,), recorder)


def test_memory_that_eager_steps_lack_too_is_told_with_what_helps_and_without_end(monkeypatch, tape):
    compiles_to(monkeypatch, lambda function: function)
    net = Net().train()
    monkeypatch.setattr(net, "losses", out_of_memory(None))
    with pytest.raises(MemoryError, match="smaller"), explain_out_of_memory(CPU.device, 4, (1, 2), "a smaller batch"):
        learn(AUTO, tape, net=net)


def test_where_only_line_by_line_lacks_memory_the_first_rung_is_kept(monkeypatch, tape):
    compiles_to(monkeypatch, lambda function: Net().train().losses)
    net = Net().train()
    monkeypatch.setattr(net, "losses", out_of_memory(None))
    monkeypatch.setattr(Updater, "_built", lambda self, rung: ladder.Captured(lambda batches: Losses(
        ("a", "count/gradient_norm"), torch.ones(2), torch.ones(1, 1)), tape))  # fmt: skip
    _, _, told, update = learn(AUTO, tape, net=net)
    assert (told, update.execution) == ([], "compiled")


def test_an_error_of_the_input_is_raised_and_no_rung_is_blamed(monkeypatch, tape):
    net = Net().train()

    def refuses(*arguments):
        raise ValueError("labels run to 91")

    monkeypatch.setattr(net, "losses", refuses)
    with pytest.raises(ValueError, match="labels run to 91"):
        learn(AUTO, tape, net=net)
    assert ladder._failed == set()


def test_only_what_records_is_compared(monkeypatch, tape):
    """Twice for each shape, then never again."""
    compiles_to(monkeypatch, lambda function: function)
    compared = []
    real = Updater._expected
    monkeypatch.setattr(Updater, "_expected", lambda self, batches: compared.append(1) or real(self, batches))
    learn(AUTO, tape, widths=(3, 3, 3, 2, 2, 2))
    assert len(compared) == 4


class Elsewhere(World):
    """The first of two processes; in the other one, attempts fail as told."""

    def any(self, flag):
        asked = self.__dict__.setdefault("asked", [])
        asked.append(flag)
        return flag or len(asked) == self.__dict__["fails_at"]

    def all_reduce_mean(self, tensors):
        self.__dict__.setdefault("reduced", []).append(len(self.__dict__.get("asked", [])))


@pytest.mark.parametrize(("fails_at", "reduced"), [(2, 1), (3, 2)], ids=["before reducing", "after"])
def test_all_processes_step_down_together(monkeypatch, tape, fails_at, reduced):
    """Asked are: after the gradients line by line, after those of the trial, and at its end."""
    compiles_to(monkeypatch, lambda function: function)
    world = Elsewhere(CPU.device, 0, 2)
    world.__dict__["fails_at"] = fails_at
    net = Net().train()
    optimizer = build_optimizer(net, Optimizer(lr=0.05), rate_on_device=True)
    told = []
    update = Updater(net, optimizer, world=world, precision=FLOAT32, rungs=AUTO, recorder=tape, say=told.append)
    update([batch(0)])
    assert update.execution == "captured"
    assert "failed in another process" in told[0]
    assert len([at for at in world.reduced if at <= fails_at]) == reduced


def test_a_comparison_that_fails_elsewhere_is_left_out_everywhere(monkeypatch, tape):
    compiles_to(monkeypatch, lambda function: function)
    world = Elsewhere(CPU.device, 0, 2)
    world.__dict__["fails_at"] = 1
    net, told = Net().train(), []
    optimizer = build_optimizer(net, Optimizer(lr=0.05), rate_on_device=True)
    update = Updater(net, optimizer, world=world, precision=FLOAT32, rungs=AUTO, recorder=tape, say=told.append)
    update([batch(0)])
    assert (told, update.execution, world.asked) == ([], "compiled", [False] * 3)


def test_a_lone_eager_rung_has_no_ladder():
    assert learn()[3]._ladder is None


def losses_of(a, b, norm):
    return Losses(("a", "b", "count/n", "count/gradient_norm"), torch.tensor([a, b, 7.0, norm]), torch.ones(1, 3))


@pytest.mark.parametrize(
    ("found", "apart"),
    [
        ((3.0, 1.0, 2.0), 0.0),
        ((3.4, 1.0, 2.0), 0.1),
        ((3.0, 1.0, 2.5), 0.025),
        ((float("nan"), 1.0, 2.0), float("inf")),
    ],
)
def test_losses_are_apart_by_a_share_of_their_sum_and_gradients_by_one_of_their_norm(found, apart):
    assert losses_apart(losses_of(*found), losses_of(3.0, 1.0, 2.0)) == pytest.approx(apart)


def test_a_gradient_that_overflows_in_both_is_no_difference():
    overflow = losses_of(3.0, 1.0, float("inf"))
    assert losses_apart(overflow, overflow) == 0.0
    assert losses_apart(losses_of(3.0, 1.0, 2.0), overflow) == float("inf")
