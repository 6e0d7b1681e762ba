"""How a processor's fastest way to predict is found and kept."""

import msgspec
import pytest
import torch

from maskrcnn.runtime import trial, verdicts
from maskrcnn.runtime.precision import Precision, cpu_has_bf16

SECONDS = {"float32": 3.0, "bf16": 2.0, "bf16, 3 x 3 in float32": 1.0}


@pytest.fixture(autouse=True)
def afresh(monkeypatch, tmp_path):
    """A processor with bf16 in its vectors, and nothing kept."""
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(trial, "_has_matrix_units", lambda: False)
    trial._fastest.cache_clear()
    yield
    trial._fastest.cache_clear()


@pytest.fixture
def tried(monkeypatch):
    """One entry for each trial; its result is what `SECONDS` says."""
    calls = []
    monkeypatch.setattr(trial, "_measure", lambda: calls.append(1) or dict(SECONDS))
    return calls


def in_a_new_process():
    trial._fastest.cache_clear()
    return trial.fastest_on_cpu()


def kept(tmp_path):
    (path,) = (tmp_path / "cache" / "verdicts").iterdir()
    return path


def test_without_bf16_nothing_is_tried(monkeypatch, tried):
    monkeypatch.setattr(trial, "cpu_has_bf16", lambda: False)
    assert trial.fastest_on_cpu() == Precision("cpu", torch.float32)
    assert trial.fastest_on_cpu(torch.bfloat16) == Precision("cpu", torch.bfloat16)
    assert not tried


def test_matrix_units_need_no_trial(monkeypatch, tried):
    monkeypatch.setattr(trial, "_has_matrix_units", lambda: True)
    assert trial.fastest_on_cpu() == Precision("cpu", torch.bfloat16)
    assert trial.fastest_on_cpu(torch.bfloat16) == Precision("cpu", torch.bfloat16)
    assert not tried


@pytest.mark.parametrize("limit", trial.LIMITS)
def test_matrix_units_that_the_library_may_not_use_are_none(limit, monkeypatch):
    monkeypatch.undo()
    for name in trial.LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: True)
    assert trial._has_matrix_units()
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: False)
    assert not trial._has_matrix_units()
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: True)
    monkeypatch.setenv(limit, "AVX512_CORE_BF16")
    assert not trial._has_matrix_units()


def test_float32_by_name_is_not_tried(tried):
    assert trial.fastest_on_cpu(torch.float32) == Precision("cpu", torch.float32)
    assert not tried


@pytest.mark.parametrize("fastest", trial.WAYS)
def test_the_fastest_way_is_taken_and_tried_once_on_a_machine(fastest, monkeypatch, tried):
    monkeypatch.setitem(SECONDS, fastest, 0.5)
    dtype, widened = trial.WAYS[fastest]
    assert [in_a_new_process() for _ in range(3)] == [Precision("cpu", dtype, widened)] * 3
    assert len(tried) == 1


def test_bf16_by_name_takes_its_faster_way(monkeypatch, tried):
    monkeypatch.setitem(SECONDS, "float32", 0.5)
    assert trial.fastest_on_cpu(torch.bfloat16) == Precision("cpu", torch.bfloat16, widened=True)
    assert trial.fastest_on_cpu() == Precision("cpu", torch.float32)
    assert len(tried) == 1


@pytest.mark.parametrize("fact", ["cpu", "features", "torch", "maskrcnn"])
def test_another_processor_or_version_is_tried_again(fact, monkeypatch, tried):
    in_a_new_process()
    facts = trial._facts() | {fact: "another"}
    monkeypatch.setattr(trial, "_facts", lambda: facts)
    in_a_new_process()
    assert len(tried) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"facts": {}, "seconds": {}}'])
def test_a_damaged_verdict_is_measured_again(damage, tried, tmp_path):
    first = in_a_new_process()
    kept(tmp_path).write_bytes(damage)
    assert in_a_new_process() == first
    assert len(tried) == 2
    assert in_a_new_process() == first
    assert len(tried) == 2


def test_a_verdict_without_all_ways_is_measured_again(tried, tmp_path):
    in_a_new_process()
    path = kept(tmp_path)
    verdict = msgspec.json.decode(path.read_bytes())
    del verdict["seconds"]["bf16"]
    path.write_bytes(msgspec.json.encode(verdict))
    in_a_new_process()
    assert len(tried) == 2


def test_nothing_is_kept_where_nothing_can_be_written(monkeypatch, tried, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "file" / "below"))
    assert [in_a_new_process().widened for _ in range(2)] == [True, True]
    assert len(tried) == 2


def test_a_user_without_a_home_has_a_verdict(monkeypatch, tried):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(verdicts, "cache_folder", homeless)
    assert in_a_new_process().widened
    assert len(tried) == 1


def test_the_first_of_two_that_measure_at_once_has_its_way(monkeypatch, tmp_path):
    def slow():
        verdicts.remember(trial.Trial(trial._facts(), SECONDS))  # another process
        return SECONDS | {"float32": 0.5}

    monkeypatch.setattr(trial, "_measure", slow)
    assert in_a_new_process() == in_a_new_process() == Precision("cpu", torch.bfloat16, widened=True)


def test_a_trial_is_of_all_ways_and_leaves_threads_and_random_numbers_alone():
    threads, numbers = torch.get_num_threads(), torch.random.get_rng_state()
    seconds = trial._measure()
    assert seconds.keys() == trial.WAYS.keys()
    assert all(0 < value < 60 for value in seconds.values())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), numbers)


def test_what_is_tried_differs_in_its_3_by_3_convolutions():
    """The ways come to the same result; bf16 alone rounds where the widened way does not."""
    results = {name: trial._work(way)().float() for name, way in trial.WAYS.items()}
    assert not torch.equal(results["bf16"], results["bf16, 3 x 3 in float32"])
    scale = results["float32"].abs().max()
    for name in ("bf16", "bf16, 3 x 3 in float32"):
        torch.testing.assert_close(results[name], results["float32"], rtol=0, atol=0.02 * float(scale))


@pytest.mark.parametrize(("capability", "has"), [("AVX512", True), ("AVX2", False)])
def test_a_cpu_that_is_told_to_do_with_avx2_has_no_bf16(monkeypatch, capability, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert cpu_has_bf16() is has
