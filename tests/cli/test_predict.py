"""`maskrcnn predict` and the door `infer.py`."""

from pathlib import Path

import pytest

from maskrcnn.proposals import Written


class Found:
    """Result of one image."""

    def __str__(self):
        return "1 instance"


class Loaded(str):
    """A predictor, which is called by its name."""

    def look(self, **ways):
        return self

    def choose(self, classes):
        return classes


@pytest.fixture
def calls(monkeypatch):
    """What was loaded and what was predicted."""
    made = []

    def load(weights, **options):
        made.append((weights, options))
        return Loaded("predictor")

    def predict_paths(predictor, sources, out, score, progress, *, recursive):
        made.append((predictor, sources, out, score, *(["recursive"] if recursive else [])))
        progress(Path("a.jpg"), Found())
        failures = ["the image b.jpg cannot be decoded"] if "b.jpg" in sources else []
        for failure in failures:
            progress(Path("b.jpg"), failure)
        return failures

    monkeypatch.setattr("maskrcnn.predict.load", load)
    monkeypatch.setattr("maskrcnn.predict_files.predict_paths", predict_paths)
    return made


def test_pictures_are_predicted_and_told_one_by_one(maskrcnn, calls, capsys):
    assert maskrcnn("predict", "best", "a.jpg", "folder", "--out", "here", "--score", "0.25", "--device", "cpu") == 0
    assert calls == [
        ("best", {"device": "cpu", "precision": "auto"}),
        ("predictor", ["a.jpg", "folder"], Path("here"), 0.25),
    ]
    assert capsys.readouterr().out == "a.jpg: 1 instance\nwritten to here\n"


def test_folders_below_are_searched_on_request(maskrcnn, calls):
    assert maskrcnn("predict", "best", "folder", "--recursive") == 0
    assert calls[1] == ("predictor", ["folder"], Path("runs/predict"), 0.5, "recursive")


def test_classes_are_chosen_by_name(maskrcnn, calls):
    assert maskrcnn("predict", "best", "a.jpg", "--classes", "cat, pet=dog") == 0
    assert calls[1][0] == ["cat", "pet=dog"]


def test_results_become_a_data_set_on_request(maskrcnn, calls, monkeypatch, capsys):
    def write_proposals(predictor, sources, dest, form, score, progress, *, recursive):
        calls.append((sources, dest, form, score, recursive))
        return Written(["the image b.jpg cannot be decoded"], ["1 image is written as PNG"], 3, 7)

    monkeypatch.setattr("maskrcnn.proposals.write_proposals", write_proposals)
    assert maskrcnn("predict", "best", "folder", "--to", "labelme", "--out", "labels", "--score", "0.25") == 2
    assert calls[1] == (["folder"], Path("labels"), "labelme", 0.25, False)
    told = capsys.readouterr()
    assert told.out == "note: 1 image is written as PNG\nlabelme: 3 images, 7 objects\nwritten to labels\n"
    assert "1 image could not be read, the first: the image b.jpg" in told.err
    assert maskrcnn("predict", "best", "folder", "--to", "word") == 2


def test_pictures_that_cannot_be_read_are_an_error_at_the_end(maskrcnn, calls, capsys):
    assert maskrcnn("predict", "best", "a.jpg", "b.jpg") == 2
    told = capsys.readouterr()
    assert "error: 1 image could not be read, the first: the image b.jpg" in told.err
    assert "\nthe image b.jpg cannot be decoded\n" in told.out  # which names the image itself


def test_the_door_keeps_the_meaning_of_its_flags(python, calls):
    words = [
        "--config",
        "x.yml",
        "--device_target",
        "GPU",
        "--mix",
        "True",
        "--ckpt_path",
        "best",
        "--imgs",
        "pictures",
    ]
    assert python("infer.py", *words, "--save_dir", "here") == 0
    assert calls == [("best", {"device": "gpu", "precision": "bf16"}), ("predictor", ["pictures"], Path("here"), 0.5)]


def test_the_door_refuses_settings_since_weights_carry_theirs(python, calls, capsys):
    assert python("infer.py", "--ckpt_path", "best", "--imgs", "pictures", "--train.batch", "3") == 2
    assert (
        "infer.py takes no settings, since weights carry their recipe; got --train.batch 3" in capsys.readouterr().err
    )
    assert calls == []
