"""Whatever is wrong with what a person gives, the command ends with one sentence: what, where, and what to do."""

import json
import re
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.cli import main
from maskrcnn.data.shapes import generate
from maskrcnn.sentences import Note

RECIPE = """
name: tiny
device: cpu
data:
  dataset_dir: {shapes}
  short_sides: [64]
  max_side: 96
  num_buckets: 1
  num_workers: 1
model:
  backbone: {{kind: resnet18, norm: group_norm, pretrained: "", frozen_stages: 0, width: 8}}
  neck: {{channels: 8}}
  rpn: {{anchor_sizes: [8, 16, 32, 64, 128], num_train_candidates: 32, num_train_proposals: 16, num_test_proposals: 16}}
  box_head: {{hidden: 16, num_rois: 16, num_detections: 5}}
  mask_head: {{num_convs: 1, channels: 8, num_rois: 8}}
train:
  batch: 4
  max_steps: 1
  evaluate_every: 0
  optimizer: {{kind: adamw, lr: 1e-3, lr_batch: 4}}
"""
TRAIN, VAL = "annotations/instances_train2017.json", "annotations/instances_val2017.json"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Layers this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the data set `shapes`, its recipe, and a run of it."""
    folder = tmp_path_factory.mktemp("made")
    generate(folder / "shapes", num_train=4, num_val=2, seed=3, side=64)
    (folder / "tiny.yml").write_text(RECIPE.format(shapes=folder / "shapes"))
    with pytest.raises(SystemExit) as end:
        main(["train", str(folder / "tiny.yml"), "--out", str(folder / "run")])
    assert end.value.code == 0
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch) -> Path:
    """A working directory with a copy of all that, free to be spoilt."""
    copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tiny.yml").write_text(RECIPE.format(shapes="shapes"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refusal(capsys) -> Callable[[str], str]:
    """Run a command that must be refused; gives the sentence, without `error: `."""

    def run(line: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(line.split())
        told = capsys.readouterr().err
        assert end.value.code == 2, told
        assert "Traceback" not in told
        assert told.startswith("error: ")
        assert told.count("\n") == 1, "one sentence"
        return told.removeprefix("error: ").strip()

    return run


def annotations(place: Path, name: str = TRAIN) -> dict:
    return json.loads((place / "shapes" / name).read_text())


def spoil(place: Path, **fields: object) -> dict:
    """Change the second annotation of the training split; gives it as it was."""
    content = annotations(place)
    before = dict(content["annotations"][1])
    content["annotations"][1] |= fields
    (place / "shapes" / TRAIN).write_text(json.dumps(content))
    return before


def pictures(place: Path) -> Iterator[Path]:
    return iter(sorted((place / "shapes/train2017").iterdir()))


def become_jpeg(place: Path) -> Path:
    """Make the first training picture a JPEG that is cut off."""
    content, path = annotations(place), next(pictures(place))
    jpeg = path.with_suffix(".jpg")
    Image.open(path).convert("RGB").save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:400])
    content["images"][0]["file_name"] = jpeg.name
    (place / "shapes" / TRAIN).write_text(json.dumps(content))
    return jpeg


def test_a_data_set_that_is_not_there(place, refusal):
    told = refusal("train tiny.yml --out new data.dataset_dir=absent")
    assert told == "the data set's folder absent does not exist; set data.dataset_dir to it"
    rmtree(place / "shapes" / "val2017")
    told = refusal("eval tiny.yml --weights run --out new")
    assert told.startswith(
        "shapes/annotations/instances_val2017.json: shapes/train2017 lacks 000000000005.png of image 5"
    )
    assert not (place / "new" / "weights").exists()


def test_dim_images_are_told_in_training_and_evaluation(place, capsys):
    for path in (place / "shapes").glob("*2017/*.png"):
        dim = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16
        Image.fromarray(dim).save(path)
    with pytest.raises(SystemExit) as end, pytest.warns(Note, match=r"val2017/\S+ uses \d % of its 16 bits"):
        main(["train", "tiny.yml", "train.evaluate_every=1", "--out", "new"])
    assert end.value.code == 0
    assert (
        len(re.findall(r"train2017/\S+ uses \d % of its 16 bits and is read nearly black", capsys.readouterr().out))
        == 1
    )


def test_an_annotation_file_that_was_cut_off(place, refusal):
    path = place / "shapes" / TRAIN
    path.write_bytes(path.read_bytes()[:700])
    told = refusal("train tiny.yml --out new")
    assert re.fullmatch(rf"shapes/{TRAIN}: is not complete JSON \(.*\); copy or export it again", told)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_id": 999}, "names image 999, which the file does not list; add the image or remove the annotation"),
        ({"category_id": 7}, "names category 7, which the file does not list; add the category or remove"),
        (
            {"segmentation": [[1, 2, float("nan"), 4, 5, 6]]},
            "holds a number that is NaN or infinite; correct or remove",
        ),
        ({"segmentation": {"size": [56, 64], "counts": [10, 20]}}, "has malformed run lengths"),
    ],
)
def test_an_annotation_that_makes_no_sense_is_named(place, refusal, fields, words):
    before = spoil(place, **fields)
    told = refusal("train tiny.yml --out new")
    image = fields.get("image_id", before["image_id"])
    assert told.startswith(f"shapes/{TRAIN}: annotation {before['id']} of image {image} ")
    assert words in told


def test_every_split_is_checked_though_the_first_is_wrong(place, capsys):
    spoil(place, category_id=7)
    path = place / "shapes" / VAL
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SystemExit) as end:
        main(["data", "check", "shapes"])
    text = capsys.readouterr().out
    assert end.value.code == 1
    assert "names category 7, which the file does not list" in text
    assert f"shapes/{VAL}: is not complete JSON" in text


def test_a_broken_picture_met_in_training_and_what_to_do_about_it(place, refusal):
    jpeg = become_jpeg(place)
    told = refusal("train tiny.yml --out new")
    assert re.fullmatch(rf"the image shapes/train2017/{jpeg.name} .*; restore or remove it", told)
    assert f"failed: {told}" in (place / "new/log.txt").read_text()
    assert not (place / "new/weights").exists()
    Image.open(jpeg.with_suffix(".png")).convert("RGB").save(jpeg)
    with pytest.raises(SystemExit) as end:
        main(["train", "tiny.yml", "--out", "new", "--resume", "auto"])
    assert end.value.code == 0
    jpeg.unlink()
    told = refusal("train tiny.yml --out newer")
    assert told.startswith(f"shapes/train2017 lacks {jpeg.name} of image 1 (1 of 4 images missing); there is ")
    assert f"shapes/{TRAIN}" in told


def test_a_broken_picture_among_others_to_predict(place, refusal):
    jpeg = become_jpeg(place)
    told = refusal("predict run shapes/train2017 --out found --score 0 --device cpu")
    assert told.startswith(f"1 image could not be read, the first: the image shapes/train2017/{jpeg.name} ")
    drawn = {path.name for path in (place / "found").iterdir()}
    assert drawn == {path.name for path in pictures(place) if path != jpeg} | {"predictions.json"}


def test_a_picture_that_is_not_of_the_annotated_size(place, refusal):
    path = next(pictures(place))
    Image.open(path).resize((50, 40)).save(path)
    size = tuple(annotations(place)["images"][0][side] for side in ("height", "width"))
    told = refusal("train tiny.yml --out new")
    assert told.startswith(f"the image shapes/train2017/{path.name} has (height, width) (40, 50) but its annotations")
    assert f"say {size}; correct the annotation file's height and width, or restore the image" in told


def test_a_folder_without_pictures(place, refusal):
    (place / "void").mkdir()
    told = refusal("predict run void")
    assert told == "no images in the folder void; expected an image, a folder of them or a glob"
    told = refusal("train tiny.yml --out new data.train_img_dir=../void")
    assert re.search(r"void lacks \S+\.png of image 1 \(4 of 4 images missing\)", told)


def test_all_mistakes_in_a_recipe_are_told_at_once(place, capsys):
    with (place / "tiny.yml").open("a") as file:
        file.write("  epochs: many\n  bach: 3\nevaluate: {batch: 0}\n")
    with pytest.raises(SystemExit) as end:
        main(["train", "tiny.yml", "--out", "new", "data.flip=1.5", "--model.backbone.kind", "resnet50d"])
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: 5 mistakes in the recipe tiny.yml:",
        "  train.epochs: expected an integer > 0, got 'many' (tiny.yml)",
        "  train.bach: no such setting; did you mean train.batch? (tiny.yml)",
        "  evaluate.batch: expected an integer > 0, got 0 (tiny.yml)",
        "  data.flip: expected a number >= 0 and <= 1, got 1.5 (command line)",
        "  model.backbone.kind: expected one of efficientnet_lite0, efficientnet_lite2, resnet101, resnet152, "
        "resnet18, resnet34, resnet50, resnext101_32x4d, resnext101_32x8d, resnext101_64x4d, resnext50_32x4d, "
        "got 'resnet50d' (command line)",
    ]
    assert not (place / "new").exists()


@pytest.mark.parametrize(
    "command", ["eval tiny.yml --out new --weights", "predict --out new --device cpu shapes/val2017"]
)
def test_weights_that_are_none(place, refusal, command):
    words = command.split()
    at = len(words) if words[0] == "eval" else words.index("shapes/val2017")

    def told(weights: str) -> str:
        return refusal(" ".join([*words[:at], weights, *words[at:]]))

    assert told("absent").startswith(f"no weights at absent (working directory {place}); expected a folder of")
    assert told("shapes").startswith("expected model.safetensors or weights/best/model.safetensors in shapes; it holds")
    assert told("tiny.yml").startswith("expected a weights folder, a run folder or a .safetensors file, received tiny")
    config = place / "run/weights/last/config.yml"
    changed = config.read_text().replace("hidden: 16", "hidden: 24")
    config.write_text(changed)
    sums = config.with_name("checksums.json")
    assert told("run").endswith(f"or, if it was changed on purpose, remove {sums.relative_to(place)}")
    sums.unlink()
    config.write_text(changed.partition("\n")[2])  # as a person's own
    misfit = told("run")
    assert misfit.startswith("the weights in run")
    assert "box_head.fcs.1.weight (expected 24 x 24, received 16 x 16)" in misfit
    assert misfit.endswith("; put the config.yml that was written with them beside them")


def test_weights_of_other_classes_than_the_annotations(place, refusal):
    content = annotations(place, VAL)
    content["categories"][0]["name"] = "pancake"
    (place / "shapes" / VAL).write_text(json.dumps(content))
    told = refusal("eval tiny.yml --weights run --out new")
    assert "only the weights know disc, only the data set knows pancake; evaluate on annotations with" in told


def test_a_checkpoint_that_cannot_be_gone_on_from(place, refusal):
    told = refusal("train tiny.yml --out new --resume run train.batch=2 model.neck.channels=16")
    assert told == (
        "run/checkpoints/step-1 belongs to another recipe: model.neck.channels: 8 in the checkpoint, 16 now; "
        "train.batch: 4 in the checkpoint, 2 now; set these back, give --weights again "
        "if the run began with them, or start a new run"
    )
    told = refusal("train tiny.yml --out new --resume run/weights")
    assert told.endswith("expected a checkpoint (a folder step-<n>) or a run that holds one, found none; run holds one")
    file = place / "run/checkpoints/step-1/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    told = refusal("train tiny.yml --out new --resume run/checkpoints/step-1")
    assert told.startswith("run/checkpoints/step-1: model.safetensors is not what was written; give")
    assert refusal("train tiny.yml --out run") == (
        "run already holds a run; go on with it by --resume auto, or choose another --out"
    )


def test_a_result_file_that_is_none(place, refusal):
    (place / "results.json").write_text('[{"image_id": 5, "category')
    words = f"eval --annotations shapes/{VAL} --predictions"
    assert refusal(f"{words} absent.json") == "absent.json: there is no such result file"
    assert refusal(f"{words} shapes").startswith("shapes: cannot be read (")
    assert refusal(f"{words} results.json").startswith("results.json: not a COCO result file (a JSON list of entries")
    assert refusal(f"{words} shapes/{VAL}").startswith(f"shapes/{VAL}: not a COCO result file")
    assert refusal("eval --annotations shapes --predictions results.json").startswith("results.json: not a COCO")
    (place / "results.json").write_text("[]")
    told = refusal("eval --annotations shapes --predictions results.json")
    assert told.startswith("shapes is a folder, which holds annotations/, ")
    assert told.endswith("; expected an annotation file")
    told = refusal("eval --annotations results.json --predictions results.json")
    assert told.startswith("results.json: Expected `object`, got `array`; expected a COCO instances file with `images`")


@pytest.mark.parametrize(
    "command",
    [
        "train tiny.yml",
        "eval tiny.yml --weights run",
        f"eval --annotations shapes/{VAL} --predictions none.json",
        "predict run shapes/val2017",
        "data show shapes",
        "data stats shapes",
        "demo",
    ],
)
def test_a_place_that_cannot_be_written_is_told_first(place, refusal, command):
    told = refusal(f"{command} --out tiny.yml/new")
    assert told == "tiny.yml/new cannot be the output folder: tiny.yml is a file; choose another one"


@pytest.mark.skipif(torch.cuda.is_available(), reason="looks at a machine without a GPU")
@pytest.mark.parametrize("command", ["train tiny.yml --out new device=gpu", "predict run shapes/val2017 --device gpu"])
def test_a_device_that_this_machine_lacks(place, refusal, command):
    told = refusal(command)
    assert told.startswith("device=gpu: expected at least one such device, 0 are visible; check `nvidia-smi`")


def test_imagenet_weights_without_a_network(place, new_cache, refusal, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))

    monkeypatch.setattr("urllib.request.OpenerDirector.open", unreachable)
    settings = "model.backbone.pretrained=imagenet model.backbone.norm=frozen_batch_norm model.backbone.width=64"
    told = refusal(f"train tiny.yml --out new {settings}")
    file = "resnet18-f37072fd.pth"
    assert f"{file} could not be downloaded" in told
    assert "Connection refused" in told
    assert f"save it as {new_cache / file}" in told
    assert {path.name for path in new_cache.iterdir()} <= {"kernels"}
    remedy = re.search(r"model\.backbone\.pretrained='' \S+ \S+$", told)
    with pytest.raises(SystemExit) as end:
        main(["train", "tiny.yml", "--out", "newer", *remedy[0].replace("''", "").split()])
    assert end.value.code == 0
