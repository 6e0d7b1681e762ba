"""`maskrcnn demo` and `maskrcnn doctor`."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from maskrcnn.cli import doctor
from maskrcnn.recipes import read_recipe
from maskrcnn.runtime import trust


def test_the_demo_trains_evaluates_predicts_and_reports(maskrcnn, tmp_path, monkeypatch, capsys):
    steps = []
    shapes, out = tmp_path / "shapes", tmp_path / "out"
    (shapes / "val2017").mkdir(parents=True)
    for number in range(9):
        (shapes / "val2017" / f"{number}.jpg").touch()

    def does(name, result=None):
        def step(*arguments):
            steps.append((name, *arguments))
            return result

        return step

    scores = {"bbox": {"AP": 0.456}, "segm": {"AP": 0.4}}
    monkeypatch.setattr("maskrcnn.data.shapes.generate", does("generate", shapes))
    monkeypatch.setattr("maskrcnn.train.loop.run", does("train", out))
    best = out / "weights" / "best"
    best.mkdir(parents=True)
    (best / "metrics.json").write_text(json.dumps(scores))
    monkeypatch.setattr("maskrcnn.predict.load", does("load", "predictor"))
    monkeypatch.setattr("maskrcnn.predict_files.predict_paths", does("predict", []))
    assert maskrcnn("demo", f"data.dataset_dir={shapes}", "--train.epochs", "2", "--out", out) == 0

    assert [step[0] for step in steps] == ["generate", "train", "load", "predict"]
    recipe = steps[1][1]
    assert (recipe.name, recipe.train.epochs) == ("demo", 2)
    assert steps[2][1] == best
    assert steps[3][2] == [shapes / "val2017" / f"{number}.jpg" for number in range(6)]
    text = capsys.readouterr().out
    assert "box AP 45.6, mask AP 40.0" in text
    assert f"look at {out / 'report.html'}" in text
    assert text.splitlines()[-1].endswith(": maskrcnn train shapes")


def test_the_recipe_from_scratch_learns_the_images_of_the_demo():
    demo, scratch = read_recipe("demo"), read_recipe("shapes")
    assert (demo.data.dataset_dir, demo.data.short_sides) == (scratch.data.dataset_dir, scratch.data.short_sides)
    assert (demo.model.backbone.pretrained, scratch.model.backbone.pretrained) == ("imagenet", "")


def test_the_doctor_tells_devices_kernels_places_and_packages():
    facts = dict(doctor.facts())
    assert "threads" in facts["cpu"]
    assert facts["op nms"].startswith("Numba on the CPU")
    assert Path(facts["recipes"]).is_dir()
    assert "MASKRCNN_CACHE" in facts["weights, annotations"]


def test_the_doctor_says_how_to_get_what_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0" if name == "maskrcnn" else None)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["yes>=2", 'maybe>=3; extra == "fast"'])
    assert list(doctor._packages()) == [
        ("yes", "missing; pip install 'yes>=2'"),
        ("maybe", "missing; pip install 'maskrcnn[fast]'"),
    ]


@pytest.fixture
def gpu_without_triton_nms(monkeypatch):
    """A GPU that is not there, on which the kernel of `nms` fails; returns how often its kernels were proved."""
    proofs = []
    faults = {"match": "", "nms": "differs by 1.0e-02 where 0e+00 is allowed (nms)"}

    def prove(device, again=False):
        proofs.append(again)
        return trust.Proof({}, faults)

    properties = SimpleNamespace(major=9, name="GPU X", total_memory=2**35)
    monkeypatch.setattr("maskrcnn.ops.gpu.has_triton", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(trust, "proof_of", prove)
    monkeypatch.setattr(trust, "known_proof", lambda device: trust.Proof({}, faults) if proofs else None)
    return proofs


def test_the_doctor_shows_what_was_proved_and_repeats_it_on_demand(maskrcnn, capsys, gpu_without_triton_nms):
    assert maskrcnn("doctor") == 0
    assert "kernels on gpu 0        not proved yet; " in capsys.readouterr().out
    assert gpu_without_triton_nms == []
    assert maskrcnn("doctor", "--prove") == 0
    assert gpu_without_triton_nms == [True]
    told = capsys.readouterr().out
    assert "nms is replaced by its definition: its kernel differs by 1.0e-02 where 0e+00 is allowed" in told
    assert "agree with their definitions: match" in told
    assert maskrcnn("doctor") == 0
    assert "nms is replaced by its definition" in capsys.readouterr().out
    assert gpu_without_triton_nms == [True]


def test_who_has_no_gpu_is_not_told_that_triton_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("maskrcnn.ops.gpu.has_triton", lambda: pytest.fail("this warns"))
    assert "maskrcnn" in dict(doctor.facts())


def test_the_doctor_names_other_accelerators_too(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("mps"))
    monkeypatch.setattr("maskrcnn.runtime.devices.choose_device", lambda setting, local_rank: torch.device("mps"))
    facts = dict(doctor.facts())
    assert facts["mps"] == "mps, by the operators' definitions"
    assert facts["device auto"] == "mps"


def test_the_doctor_compiles_all_kernels_or_says_that_they_could_not_be_kept(maskrcnn, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("maskrcnn.runtime.warm.Task.run", lambda self: None)
    monkeypatch.setattr("maskrcnn.runtime.warm.WORTH_A_PROCESS", 1000)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path))
    assert maskrcnn("doctor", "--warm") == 0
    assert f"compiled kernels        {tmp_path / 'kernels'}\n" in capsys.readouterr().out
    monkeypatch.setattr("maskrcnn.kernels.keep", lambda name, content: False)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "other"))
    assert maskrcnn("doctor", "--warm") == 2
    assert "error: compiled kernels could not be kept" in capsys.readouterr().err


def test_the_doctor_sees_a_user_without_a_home(maskrcnn, monkeypatch, capsys):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("maskrcnn.files.cache_folder", homeless)
    assert maskrcnn("doctor") == 0
    assert "nowhere: Could not determine home directory. MASKRCNN_CACHE names a folder" in capsys.readouterr().out
