"""The README's commands run, and those of docs/coming_from.md: their own words in their own order, in a folder that
holds what they name."""

import json
import os
import pickle
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import maskrcnn
from maskrcnn.cli import main
from maskrcnn.config import Backbone, BoxHead, Model, Neck, Recipe
from maskrcnn.convert.checkpoint import FRAMEWORKS
from maskrcnn.convert.framework import shapes, write
from maskrcnn.convert.mindspore_file import write_ckpt
from maskrcnn.data.shapes import generate
from maskrcnn.recipes import read_recipe
from maskrcnn.recipes.describe import all_settings

REPOSITORY = Path(__file__).parents[2]
README, COMING_FROM = "README.md", "docs/coming_from.md"
PAGES = {name: (REPOSITORY / name).read_text(encoding="utf-8").replace("\\\n", " ") for name in (README, COMING_FROM)}
BLOCKS = {name: re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for name, text in PAGES.items()}
COMMANDS = [line for kind, text in BLOCKS[README] if kind == "bash" for line in text.splitlines() if line.strip()]
INLINES = {
    name: re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    for name, text in PAGES.items()
}
LAUNCHERS = {"mpirun": "-n", "torchrun": "--nproc-per-node"}
"""What starts several processes, and the option that says how many."""
LAUNCHED = [line for line in (*COMMANDS, *INLINES[README]) if line.split()[0] in LAUNCHERS and len(line.split()) > 1]
RECIPE = "config/maskrcnn/mask_rcnn_resnet50_fpn_1x.yml"
PLANNED = "config/lite.yml"
"""The recipe that a plan for this machine stands on."""
TINY = """
__BASE__: ../coco.yml
name: mask_rcnn_resnet50_fpn_1x
data: {short_sides: [64], max_side: 96, num_buckets: 1, num_workers: 1}
model:
  backbone: {kind: resnet18, norm: group_norm, pretrained: "", frozen_stages: 0, width: 16}
  neck: {channels: 32}
  rpn: {num_train_candidates: 64, num_train_proposals: 32, num_test_candidates: 64, num_test_proposals: 32}
  box_head: {hidden: 32, num_rois: 16, num_detections: 10}
  mask_head: {pool_size: 7, num_convs: 1, channels: 32, num_rois: 8}
train: {batch: 4, epochs: 1}
evaluate: {batch: 2}
"""
"""Stands in for the recipe that the README trains: one step."""
TARGETS = {"demo": "-m maskrcnn demo", "test": "-m pytest", "lint": "-m mypy"}
"""What `make` runs for each."""
PUBLISHED = {
    "detectron2": "model_final.pkl",
    "torchvision": "maskrcnn_resnet50_fpn.pth",
    "mmdetection": "mask_rcnn_r50_fpn_1x_coco.pth",
    "mindspore": "MaskRCNN_det_resnet50_epoch12_rank0.ckpt",
}
"""Names that files of each maker have on the pages."""
UNKNOWN = "{0!r} is shown, which no test runs; teach {1} to run it"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, Path]:
    """Slim networks as others publish large ones; published files are not downloaded in tests."""
    folder = tmp_path_factory.mktemp("published")
    for maker, name in PUBLISHED.items():
        slim_network(maker, folder / name)
    return {name: folder / name for name in PUBLISHED.values()}


@pytest.fixture
def place(tmp_path, monkeypatch, published):
    """The working directory of somebody who follows the README."""
    data = generate(tmp_path / "my_data", num_train=4, num_val=2, seed=3, side=64)
    for door in ("train.py", "eval.py", "infer.py"):
        shutil.copy(REPOSITORY / door, tmp_path)
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    coco = tmp_path / "config" / "coco.yml"
    coco.write_text(coco.read_text().replace("dataset_dir: datasets/coco2017", "dataset_dir: my_data"))
    assert (tmp_path / RECIPE).is_file()
    (tmp_path / RECIPE).write_text(TINY)
    (tmp_path / PLANNED).write_text(TINY.replace("../coco.yml", "coco.yml"))
    monkeypatch.setattr("maskrcnn.train.proposal.CPU_STEPS", 1)

    pictures = sorted(shutil.copytree(data / "val2017", tmp_path / "photos").iterdir())
    Image.open(pictures[0]).convert("RGB").save(tmp_path / "street.jpg")
    truth = tmp_path / shutil.copy(data / "annotations" / "instances_val2017.json", tmp_path)
    found = [{**one, "score": 1.0} for one in json.loads(truth.read_text())["annotations"] if not one["iscrowd"]]
    (tmp_path / "results.json").write_text(json.dumps(found))

    for name, path in published.items():
        (tmp_path / name).hardlink_to(path)
    monkeypatch.setattr(
        "maskrcnn.convert.zoo.download",
        lambda published: tmp_path / PUBLISHED[published.framework.replace("mmdet", "mmdetection")],
    )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("maskrcnn.recipes.find.recipe_folder", lambda: tmp_path / "config")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
    num_threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(num_threads)


def slim_network(maker: str, path: Path) -> None:
    """Write a maker's file, of the smallest network that the commands on the pages take."""
    kind = "resnet18" if maker in ("torchvision", "mindspore") else "resnet50"
    width = 16 if maker == "mmdetection" else 64
    model = Model(backbone=Backbone(kind=kind, width=width), neck=Neck(channels=16), box_head=BoxHead(hidden=16))
    generator = torch.Generator().manual_seed(0)
    num_classes = 90 if maker == "torchvision" else 80
    tensors = {
        name: 0.01 * torch.randn(shape, generator=generator) for name, shape in shapes(model, num_classes).items()
    }
    tensors |= {name: 1 + tensor for name, tensor in tensors.items() if name.endswith("running_var")}
    state = write(FRAMEWORKS[maker], tensors)
    if path.suffix == ".pkl":
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    elif path.suffix == ".ckpt":
        write_ckpt(path, state)
    else:
        torch.save(state, path)


def run(line: str, monkeypatch) -> None:
    """One command, in this process where that is the same."""
    words = shlex.split(line, comments=True)
    match words:
        case ["make", *targets]:
            check_targets(targets)
        case ["maskrcnn", *arguments]:
            assert exit_code(main, arguments) == 0, line
        case ["python", door, *_] if Path(door).is_file():
            monkeypatch.setattr(sys, "argv", words[1:])
            assert exit_code(runpy.run_path, door, run_name="__main__") == 0, line
        case [launcher, *_] if launcher in LAUNCHERS:
            assert line in LAUNCHED  # has a test of its own
        case []:
            pass
        case _:
            pytest.fail(UNKNOWN.format(line, Path(__file__).name))


def exit_code(call, *arguments, **named) -> object:
    with pytest.raises(SystemExit) as end:
        call(*arguments, **named)
    return end.value.code


def check_targets(targets: list[str]) -> None:
    """`make` knows them and would do something; doing it would install everything again."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for target in targets:
        assert target in TARGETS, UNKNOWN.format(f"make {target}", Path(__file__).name)
        done = subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert TARGETS[target] in done.stdout


def follow(page: str, monkeypatch) -> None:
    """Type everything that a page shows."""
    for kind, text in BLOCKS[page]:
        if kind == "bash":
            for line in text.splitlines():
                run(line, monkeypatch)
        elif kind == "python":
            names = {}
            exec(compile(text, page, "exec"), names)
            assert isinstance(names["result"], maskrcnn.Instances)
        elif kind != "text":
            pytest.fail(UNKNOWN.format(text, Path(__file__).name))


def test_the_readme_runs_as_it_stands(place, monkeypatch):
    follow(README, monkeypatch)
    written = [
        "runs/data/index.html",
        "runs/data/statistics.html",
        "tuned.pth",
        "runs/tuned/weights/best/model.safetensors",
        "runs/mine/report.html",
        "runs/mine/weights/best/model.safetensors",
        "street.png",
    ]
    written += [f"found/{picture.name}" for picture in (place / "photos").iterdir()]
    assert [name for name in written if not (place / name).is_file()] == []
    scores = json.loads((place / "scores" / "metrics.json").read_text())
    assert (scores["bbox"]["AP"], scores["segm"]["AP"]) == (pytest.approx(1), pytest.approx(1))


def test_whoever_comes_from_another_system_types_what_runs(place, monkeypatch):
    follow(COMING_FROM, monkeypatch)
    runs = ["tuned", "from_torchvision", "from_detectron2", "from_mmdetection"]
    written = [f"runs/{name}/weights/last/model.safetensors" for name in runs]
    written += ["back.ckpt", "back.pth", "back_to_detectron2.pth", "back_to_detectron2.yaml"]
    assert [name for name in written if not (place / name).is_file()] == []


@pytest.fixture
def lonely(place) -> None:
    """All objects to learn are on one picture, so that one of two processes has none."""
    path = place / "my_data/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    shown = content["annotations"][0]["image_id"]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] == shown]
    path.write_text(json.dumps(content))


@pytest.mark.usefixtures("lonely")
@pytest.mark.parametrize("line", LAUNCHED, ids=lambda line: line.split()[0])
def test_the_readme_trains_with_two_processes_though_one_has_no_object(line, place):
    line = line.replace("...", f"{RECIPE} device=cpu").replace("--device_target GPU", "--device_target CPU")
    words = shlex.split(line)
    words[words.index(LAUNCHERS[words[0]]) + 1] = "2"
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    crowded = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}  # two processes on one core are enough
    done = subprocess.run(words, env={**os.environ, **crowded}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 images (3 without objects)" in done.stdout
    assert "1 steps of 4 images (processes x micro-batches x images: 2 x 1 x 2)" in done.stdout
    assert [words.split()[0] for words in done.stdout.splitlines()].count("step") == 1
    assert (place / "runs/train/mask_rcnn_resnet50_fpn_1x/weights/last/model.safetensors").is_file()


@pytest.mark.parametrize("line", ["bazel run demo", "make cake", "python absent.py", "maskrcnn tarin"])
def test_a_command_that_is_not_known_fails(line, place, monkeypatch):
    with pytest.raises((AssertionError, pytest.fail.Exception), match=re.escape(line)):
        run(line, monkeypatch)


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_a_page_names_exist(page):
    sections = {path.partition(".")[0] for path in all_settings()} & set(Recipe.__struct_fields__)
    words = [word for inline in INLINES[page] for word in inline.split()]
    settings = [word for word in words if word.partition(".")[0] in sections and re.fullmatch(r"[\w.]+(=.*)?", word)]
    settings = [word for word in settings if "." in word]
    assert "train.batch" in settings
    assert {word.partition("=")[0] for word in settings} <= set(all_settings())
    read_recipe("coco", [word for word in settings if "=" in word and not word.endswith("=DIR")])


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_links_to_exist(page):
    links = re.findall(r"\]\(([^)#]+)\)", PAGES[page])
    missing = [link for link in links if "://" not in link and not (REPOSITORY / page).parent.joinpath(link).exists()]
    assert missing == []
