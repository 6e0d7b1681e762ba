"""The MindSpore system's README, command by command, with a recipe in its dialect, on one process and on two.

Source: mindspore-lab/models, official/cv/RCNN, the READMEs of config/maskrcnn and config/faster_rcnn at f109833. Two
slips of theirs are mended: a full-width comma where a line goes on, and `cconfig/` for `config/`.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maskrcnn.cli import main
from maskrcnn.data.shapes import generate
from maskrcnn.weights import load_weights

REPOSITORY = Path(__file__).parents[2]
THEIRS = Path(__file__).parents[1] / "recipes" / "mindspore"
TRAIN = "python train.py --config [CONFIG_PATH] --device_target [DEVICE_TARGET] --mix True"
RESUME = f"{TRAIN} --resume_ckpt [CHECKPOINT_PATH]"
EVALUATE = (
    "python eval.py --config [CONFIG_PATH] --device_target [DEVICE_TARGET] --mix True --ckpt_path [CHECKPOINT_PATH]"
)
INFER = (
    "python infer.py --config [CONFIG_PATH] --device_target [DEVICE_TARGET] --ckpt_path [CHECKPOINT_PATH] "
    "--imgs [image path] --save_dir [RESULT_PATH]"
)
MPIRUN = "mpirun --allow-run-as-root -n [DEVICE_NUM] --merge-stderr-to-stdout \\\n    "
CONFIG = "config/maskrcnn/small.yml"
FILLED = {"[CONFIG_PATH]": CONFIG, "[DEVICE_TARGET]": "CPU", "[DEVICE_NUM]": "2", "[image path]": "coco2017/val2017"}
RUN = Path("runs/train/small")
IMAGES, VALIDATION = 8, 4


def few_photos(source: Path, folder: Path, split: str, number: int) -> None:
    """Some images of a data set in COCO's layout, with all its categories, as README has them: in `annotation/`."""
    name = f"instances_{split}2017.json"
    content = json.loads((source / "annotations" / name).read_text())
    used = {row["image_id"] for row in content["annotations"]}
    content["images"] = [row for row in content["images"] if row["id"] in used][:number]
    kept = {row["id"] for row in content["images"]}
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]
    (folder / f"{split}2017").mkdir(parents=True)
    for row in content["images"]:
        shutil.copy(source / f"{split}2017" / row["file_name"], folder / f"{split}2017")
    (folder / "annotation").mkdir(exist_ok=True)
    (folder / "annotation" / name).write_text(json.dumps(content))


@pytest.fixture
def place(request, tmp_path) -> Path:
    """A working directory as the README leaves it: photos of COCO where they are at hand, drawn shapes elsewhere."""
    folder = tmp_path / "place"
    folder.mkdir()
    shared = Path(os.environ.get("MASKRCNN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    source = shared / "coco_mini"
    if not source.is_dir():
        source = generate(folder / "shapes", num_train=IMAGES, num_val=VALIDATION, seed=3, side=64)
    few_photos(source, folder / "coco2017", "train", IMAGES)
    few_photos(source, folder / "coco2017", "val", VALIDATION)
    if request.param == "two processes":
        (folder / "coco2017" / "annotation").rename(folder / "coco2017" / "annotations")
    for door in ("train.py", "eval.py", "infer.py"):
        shutil.copy(REPOSITORY / door, folder)
    shutil.copytree(THEIRS, folder / "config")
    (folder / "config" / "network").rename(folder / "config" / "maskrcnn")
    paths = folder / "config" / "coco.yml"
    text = paths.read_text()
    assert 'dataset_dir: "your coco"' in text
    paths.write_text(text.replace('dataset_dir: "your coco"', 'dataset_dir: "coco2017"'))
    (folder / "processes").write_text(request.param)
    return folder


@pytest.fixture(autouse=True)
def there(place, monkeypatch):
    """A person types in that directory."""
    monkeypatch.chdir(place)
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def types(place, monkeypatch, capfd):
    """Types a command of the README; gives its exit code and what it said."""

    def one(line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", shlex.split(line)[1:])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(sys.argv[0], run_name="__main__")
        told = capfd.readouterr()
        return end.value.code, told.out + told.err

    def two(line: str) -> tuple[int, str]:
        words = shlex.split(filled(MPIRUN)) + shlex.split(line)
        paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if shutil.which(words[0], path=paths) is None:
            pytest.skip("mpirun is not installed")
        crowded = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **crowded, "PATH": paths, "PYTHONPATH": str(REPOSITORY / "src")}
        done = subprocess.run(
            [shutil.which(words[0], path=paths), *words[1:]],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr

    is_one = (place / "processes").read_text() == "one process"
    return lambda line, **given: (one if is_one or "infer.py" in line else two)(filled(line, **given))


def filled(line: str, checkpoint: object = "", result: str = "") -> str:
    """The README's line with its brackets filled in."""
    line = line.replace("\\\n", " ")
    for bracket, word in {**FILLED, "[CHECKPOINT_PATH]": str(checkpoint), "[RESULT_PATH]": result}.items():
        line = line.replace(bracket, word)
    return line


@pytest.mark.parametrize(
    "place", ["one process", pytest.param("two processes", marks=pytest.mark.exhaustive)], indirect=True
)
def test_the_readme_from_training_to_results(types, place):
    trains(types, place)
    trains_once(types)
    goes_on(types)
    begins_with_weights(types)
    evaluates(types)
    predicts(types)


@pytest.mark.parametrize("place", ["two processes"], indirect=True)
def test_two_processes_train_and_go_on(types, place):
    trains(types, place)
    goes_on(types)


def trains(types, place):
    code, told = types(TRAIN)
    assert code == 0, told
    assert re.search(r"coco2017/annotations?/instances_train2017.json: 8 images", told)
    shared_out = (
        " (processes x micro-batches x images: 2 x 1 x 2)" if "two" in (place / "processes").read_text() else ""
    )
    assert f"2 steps of 4 images{shared_out}, 2 in an epoch" in told
    assert told.count("is read as a recipe of the MindSpore system") <= 1
    assert f"weights: {RUN}/weights/" in told


def trains_once(types):
    code, told = types(TRAIN)
    assert code != 0
    advice = f"{RUN} already holds a run; go on with it by --resume_ckpt auto, or choose another --save_dir"
    assert f"error: {advice}\n" in told


def goes_on(types):
    recipe = Path(CONFIG)
    recipe.write_text(recipe.read_text().replace("epochs: 1", "epochs: 2"))
    code, told = types(RESUME, checkpoint=RUN)
    assert code == 0, told
    assert f"going on from {RUN}/checkpoints/step-2" in told
    assert (RUN / "checkpoints" / "step-4" / "state.json").is_file()


def begins_with_weights(types):
    with pytest.raises(SystemExit) as end:
        main(["convert", str(RUN / "weights" / "last"), "theirs.ckpt", "--to", "mindspore"])
    assert end.value.code == 0
    code, told = types(f"{RESUME} --save_dir begun", checkpoint="theirs.ckpt")
    assert code == 0, told
    assert (
        told.count("theirs.ckpt holds weights alone, with which a run begins at its first step: no exact resume") == 1
    )
    assert "initialised from theirs.ckpt; its network and preprocessing replace the recipe's" in told
    frozen = load_weights("begun").recipe.model.backbone
    assert (frozen.kind, frozen.stem_pool) == ("resnet18", "end")


def evaluates(types):
    code, told = types(EVALUATE, checkpoint=RUN)
    assert code == 0, told
    assert f"{RUN}/weights/last on {VALIDATION} images of coco2017" in told
    assert "report: runs/eval/small/last/report.html" in told


def predicts(types):
    code, told = types(INFER, checkpoint=RUN, result="found")
    assert code == 0, told
    assert {path.name for path in Path("found").iterdir()} == {
        "predictions.json",
        *(path.name for path in Path("coco2017/val2017").iterdir()),
    }
