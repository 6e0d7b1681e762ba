"""Addresses that nobody knows are refused wherever a path may stand, without secrets, and no path is made of them."""

import sys

import pytest

from maskrcnn.cli import main, seed_scripts

UNKNOWN, LACKING = "ftp://me:PASSWORD@host/x", "s3:/KEY:PASSWORD@bucket/x"
WORDS = (
    "ftp://host/x: expected a path or an address that begins with one of s3://",
    "expected an address without a user or a query, such as ftp://host/x",
    "expected an address with two slashes, s3://bucket/x, received one with a single slash",
    "s3://bucket/x: expected a bucket's name",
)


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path, new_cache):
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MASKRCNN_DEBUG", raising=False)
    return folder


def assert_refused(capsys, place, code):
    told = capsys.readouterr()
    assert code == 2
    assert any(words in told.err for words in WORDS), told.err
    assert "PASSWORD" not in told.out + told.err
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("address", [UNKNOWN, LACKING])
@pytest.mark.parametrize(
    "command",
    [
        "train demo --out ADDRESS",
        "train demo --resume ADDRESS",
        "train demo --weights ADDRESS",
        "train demo data.dataset_dir=ADDRESS",
        "train demo data.val_img_dir=ADDRESS",
        "eval coco --weights ADDRESS",
        "eval coco --weights weights --out ADDRESS",
        "eval --annotations ADDRESS --predictions results.json",
        "predict ADDRESS image.jpg",
        "predict weights image.jpg --out ADDRESS",
        "data check ADDRESS",
        "data shapes ADDRESS",
        "data show demo --out ADDRESS",
        "data stats demo --out ADDRESS",
        "convert ADDRESS weights",
        "convert weights ADDRESS",
        "demo --out ADDRESS",
    ],
)
def test_commands_refuse_unknown_addresses(command, address, capsys, place):
    with pytest.raises(SystemExit) as end:
        main([word.replace("ADDRESS", address) for word in command.split()])
    assert_refused(capsys, place, end.value.code)


@pytest.mark.parametrize("address", [UNKNOWN, LACKING])
@pytest.mark.parametrize(
    "words",
    [
        "train --save_dir ADDRESS",
        "train --resume_ckpt ADDRESS",
        "train --enable_modelarts True --train_url ADDRESS",
        "train --enable_modelarts True --data_url ADDRESS",
        "evaluate --ckpt_path ADDRESS",
        "infer --ckpt_path weights --imgs image.jpg --save_dir ADDRESS",
    ],
)
def test_scripts_refuse_unknown_addresses(words, address, capsys, place, monkeypatch):
    door, *words = [word.replace("ADDRESS", address) for word in words.split()]
    config = [] if door == "infer" else ["--config", "coco"]
    monkeypatch.setattr(sys, "argv", [door, *config, *words])
    with pytest.raises(SystemExit) as end:
        getattr(seed_scripts, door)()
    assert_refused(capsys, place, end.value.code)
