"""Devices without kernels of ours: what torch lacks for them is not asked of it, and a bad one is a sentence."""

import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maskrcnn import config, predict
from maskrcnn.cli.predict import Device
from maskrcnn.data import annotation_store
from maskrcnn.models.mask_rcnn import build
from maskrcnn.ops.examples import EXAMPLES, compute
from maskrcnn.runtime.clock import mark, seconds_between
from maskrcnn.runtime.devices import (
    DeviceSetting,
    choose_device,
    copies_in_order,
    memory_of,
    name_of,
    num_devices,
    synchronize,
)
from maskrcnn.runtime.distributed import Ranks, meet
from maskrcnn.runtime.execution import choose_algorithms, choose_execution, is_recorded, to_host
from maskrcnn.runtime.memory import explain_out_of_memory, peak_memory
from maskrcnn.runtime.precision import Precision, choose_precision
from maskrcnn.structures import ImageBatch, Targets
from maskrcnn.train.stopwatch import HostStopwatch, stopwatch_for

CPU, MPS, XPU = torch.device("cpu"), torch.device("mps"), torch.device("xpu", 0)


@pytest.fixture
def machine(monkeypatch):
    """A machine with any number of devices of each kind, and no others."""

    def has(**numbers):
        for kind in ("cuda", "mps", "xpu"):
            number = numbers.get(kind, 0)
            module = getattr(torch, kind)
            monkeypatch.setattr(module, "is_available", lambda number=number: number > 0)
            monkeypatch.setattr(module, "device_count", lambda number=number: number)
            if kind != "mps":
                monkeypatch.setattr(module, "set_device", lambda device: None)
        others = [torch.device(kind) for kind in numbers if numbers[kind] and kind != "cuda"]
        monkeypatch.setattr(
            torch.accelerator, "current_accelerator", lambda check_available: others[0] if others else None
        )
        monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "1")

    return has


def test_settings_are_the_same_words_everywhere():
    assert set(get_args(DeviceSetting)) == set(get_args(Device))
    assert set(get_args(get_type_hints(config.Recipe)["device"])) == set(get_args(Device))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"cuda": 1, "xpu": 1}, torch.device("cuda", 0)),
        ({"xpu": 2}, XPU),
        ({"mps": 1}, torch.device("mps", 0)),
        ({}, CPU),
    ],
)
def test_auto_takes_the_best_device_there_is(machine, numbers, expected):
    machine(**numbers)
    assert choose_device("auto", 0) == expected


def test_devices_are_taken_by_name_and_number(machine):
    machine(mps=1, xpu=2)
    assert choose_device("mps", 0) == torch.device("mps", 0)
    assert choose_device("xpu", 1) == torch.device("xpu", 1)
    assert choose_device("accelerator", 0).type == "mps"
    assert predict._device("MPS") == torch.device("mps", 0)
    assert predict._device("xpu:1") == torch.device("xpu", 1)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("mps", r"device=mps: expected at least one such device, 0 are visible; it needs a Mac .*, or set device=cpu"),
        ("xpu", r"device=xpu: expected .* 0 are visible; check `xpu-smi discovery` .*, or set device=cpu"),
        (
            "accelerator",
            r"device=accelerator: expected .* 0 are visible; install torch's package .*, or set device=cpu",
        ),
    ],
)
def test_a_device_that_is_missing_is_told_with_what_to_do(machine, setting, sentence):
    machine()
    with pytest.raises(ValueError, match=sentence):
        choose_device(setting, 0)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("toaster", "expected device auto, cpu, gpu, ascend, mps, xpu, accelerator or one such as cuda:1, received"),
        ("xpu:3", "device xpu:3: 2 of kind xpu are visible here; expected one of auto, cpu"),
        ("mps:1", "device mps:1: 0 of kind mps are visible here"),
    ],
)
def test_a_bad_device_is_a_sentence(machine, name, sentence):
    machine(xpu=2)
    with pytest.raises(ValueError, match=sentence):
        predict._device(name)


def test_two_processes_do_not_share_the_only_device(machine):
    machine(mps=1)
    with pytest.raises(
        ValueError, match=r"process 1 of this machine .* 1 are visible; start at most 1 processes on it"
    ):
        choose_device("mps", 1)


def test_processes_that_cannot_add_up_gradients_are_refused():
    with pytest.raises(ValueError, match=r"2 processes cannot share work on mps: .* cpu, cuda, npu, xpu; start one"):
        meet({}, Ranks(0, 2, 0, 1), MPS)


def test_operators_that_mps_lacks_run_on_the_cpu_or_a_person_is_told(machine, monkeypatch):
    machine(mps=1)
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK")
    with pytest.warns(UserWarning, match="import maskrcnn first, or set PYTORCH_ENABLE_MPS_FALLBACK=1"):
        choose_device("mps", 0)


@pytest.mark.parametrize(
    ("before", "expected"), [("", "1"), ("import torch; ", "None"), ("import os; os.environ[NAME] = '0'; ", "0")]
)
def test_the_package_asks_torch_for_that_before_torch_looks(before, expected):
    name = "PYTORCH_ENABLE_MPS_FALLBACK"
    code = f"import sys; NAME = '{name}'; {before}sys.platform = 'darwin'; import maskrcnn, os; print(os.getenv(NAME))"
    environment = {key: value for key, value in os.environ.items() if key != name}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("device", [MPS, XPU], ids=str)
def test_steps_and_predictions_run_line_by_line_with_the_hosts_clock(device):
    assert choose_execution("auto", device, "train.execution") == "eager"
    assert not is_recorded("compiled", device)
    assert not copies_in_order(device)
    assert isinstance(stopwatch_for(device), HostStopwatch)
    choose_algorithms(device, deterministic=True)
    with pytest.raises(ValueError, match=f"captured needs a CUDA GPU, .* runs on {device.type}"):
        choose_execution("captured", device, "train.execution")


def module(monkeypatch, **functions):
    monkeypatch.setattr(torch, "get_device_module", lambda kind: SimpleNamespace(**functions))


def test_what_torch_does_not_say_of_a_device_is_not_asked(monkeypatch):
    waited = []
    module(monkeypatch, synchronize=lambda: waited.append(1))
    assert name_of(MPS) == "mps"
    assert memory_of(MPS) is None
    assert peak_memory(MPS) is None
    first, second = mark(MPS), mark(MPS)
    assert seconds_between(first, second) >= 0
    synchronize(MPS)
    assert len(waited) == 3  # the host's clock runs ahead unless it waits
    columns = annotation_store.Columns(*(torch.zeros(1, 4) for _ in annotation_store.Columns._fields))
    assert annotation_store.device_for(columns, MPS) == CPU
    sentence = "mps has too little memory for 2 images of 32 x 64 at once; pray"
    with pytest.raises(MemoryError, match=sentence), explain_out_of_memory(MPS, 2, (32, 64), "pray"):
        raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB, max allowed: 9 GB)")


def test_what_torch_says_of_a_device_is_used(monkeypatch):
    reset = []
    module(
        monkeypatch,
        get_device_name=lambda device: "Arc",
        mem_get_info=lambda device: (2**30, 2**34),
        max_memory_allocated=lambda device: 7,
        reset_peak_memory_stats=reset.append,
        synchronize=reset.append,
    )
    assert (name_of(XPU), memory_of(XPU), peak_memory(XPU)) == ("Arc", (2**30, 2**34), 7)
    synchronize(XPU)
    assert reset == [XPU, XPU]
    with (
        pytest.raises(MemoryError, match=r"xpu:0 \(16 GiB\) has too little"),
        explain_out_of_memory(XPU, 1, (32, 64), "pray"),
    ):
        raise torch.OutOfMemoryError("XPU out of memory")


@pytest.mark.parametrize(
    ("device", "functions", "dtype"),
    [
        (XPU, {"is_bf16_supported": lambda including_emulation: not including_emulation}, torch.bfloat16),
        (XPU, {"is_bf16_supported": lambda including_emulation: including_emulation}, torch.float32),
        (MPS, {}, torch.bfloat16),
    ],
)
def test_mixed_precision_is_bf16_or_none_so_that_no_loss_scale_is_needed(monkeypatch, device, functions, dtype):
    module(monkeypatch, **functions)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: (major, minor) == (14, 0))
    precision = choose_precision(device, mixed=True)
    assert precision.dtype == dtype
    assert not precision.scaler().is_enabled()
    assert choose_precision(device, mixed=False).dtype == torch.float32


def test_an_old_mac_has_no_mixed_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: False)
    assert choose_precision(MPS, mixed=True).dtype == torch.float32


def test_a_kind_without_autocast_computes_in_float32():
    assert choose_precision(torch.device("meta"), mixed=True).dtype == torch.float32
    assert isinstance(Precision("meta", torch.float32).autocast(), nullcontext)


def test_results_come_to_the_host_from_any_device():
    found = to_host((torch.ones(2), torch.zeros(3)), torch.device("meta"))
    assert [tensor.device for tensor in found.wait()] == [CPU, CPU]


class NoDoubles(TorchDispatchMode):
    """What `mps` cannot do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                raise TypeError(f"{func} makes float64, which MPS does not have")
        return result


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_no_definition_needs_float64(example):
    with NoDoubles():
        compute(example, example.definition, CPU)


def test_neither_losses_nor_predictions_need_float64():
    """On a device that computes nothing, so that no kernel of the CPU takes a definition's place."""
    meta = torch.device("meta")
    settings = config.Model(
        backbone=config.Backbone(kind="resnet18", norm="group_norm", width=8),
        neck=config.Neck(channels=16),
        mask_head=config.MaskHead(channels=16, num_convs=1),
    )
    with meta:
        model = build(settings, 2)
        images = ImageBatch(torch.empty(1, 3, 64, 96), torch.empty(1, 2))
        no = torch.empty(1, 1, dtype=torch.bool)
        edges, first = torch.empty(1, 4, 4), torch.empty(1, 2, dtype=torch.int64)
        targets = Targets(torch.empty(1, 1, 4), no.long(), no, no, edges, first)
        keys = torch.empty(1, dtype=torch.int64)
        with NoDoubles():
            losses = model.train().losses(images, targets, keys)
            sum(losses.values()).backward()
            detections = model.eval()(images)
    assert detections.boxes.shape[2] == 4


def test_the_number_of_devices_of_an_unknown_kind_is_zero():
    assert num_devices("nothing") == 0
