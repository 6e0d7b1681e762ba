import json
import os
import random
import re
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskrcnn import checksums
from maskrcnn.config import Recipe
from maskrcnn.recipes import write_recipe
from maskrcnn.sentences import Note
from maskrcnn.train import checkpoint
from maskrcnn.weights import fill, find_weights, load_weights, save_weights

RECIPE = Recipe(name="tiny", classes=("cat", "yes"), category_ids=(3, 7))


def test_weights_and_recipe_come_back_as_they_were(tmp_path):
    model = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    save_weights(tmp_path / "best", model, RECIPE, {"segm": {"AP": 0.5}})
    tensors, recipe, origin = load_weights(tmp_path / "best")
    assert origin == str(tmp_path / "best" / "model.safetensors")
    assert recipe == RECIPE
    torch.testing.assert_close(tensors, dict(model.state_dict()), rtol=0, atol=0)
    assert json.loads((tmp_path / "best" / "metrics.json").read_text()) == {"segm": {"AP": 0.5}}
    assert sorted(os.listdir(tmp_path / "best")) == [
        "checksums.json",
        "config.yml",
        "metrics.json",
        "model.safetensors",
    ]


def test_a_state_dict_can_be_saved_as_well_as_a_model(tmp_path):
    save_weights(tmp_path / "best", {"a": torch.arange(3.0)}, RECIPE, {})
    torch.testing.assert_close(load_weights(tmp_path / "best")[0], {"a": torch.arange(3.0)})


def test_a_checkpoint_of_a_run_is_read_with_the_recipe_of_the_run_and_its_average(tmp_path, monkeypatch):
    tensors = {"model": {"a": torch.zeros(1), "mean": torch.ones(1)}, "average": {"a": torch.full((1,), 5.0)}}
    step = checkpoint.save(tmp_path / "run/checkpoints", 2, tensors, {}, keep=1)
    with pytest.raises(FileNotFoundError, match=r"^expected config\.yml beside .*step-2"):
        load_weights(step)
    write_recipe(RECIPE, tmp_path / "run/config.yml")
    monkeypatch.chdir(step)
    for path in (step, step / "model.safetensors", "."):
        found = load_weights(path)
        assert (found.recipe, found.tensors) == (RECIPE, {"a": 5.0, "mean": 1.0})


@pytest.mark.parametrize("name", ["a.ckpt", "last/model.safetensors"])
def test_of_a_folder_of_weights_one_is_to_be_named(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"it holds (a\.ckpt|last/); name one of them$"):
        find_weights(tmp_path)


def test_a_run_without_weights_yet_says_how_to_go_on(tmp_path):
    for name in ("config.yml", "metrics.jsonl"):
        (tmp_path / name).touch()
    goes_on = f"before its first evaluation: `maskrcnn train {tmp_path}/config.yml --out {tmp_path} --resume auto`"
    with pytest.raises(FileNotFoundError, match=f"{re.escape(goes_on)} goes on with it$"):
        find_weights(tmp_path)
    for step in (9, 10):
        (tmp_path / f"checkpoints/step-{step}").mkdir(parents=True)
        for name in ("state.json", "model.safetensors"):
            (tmp_path / f"checkpoints/step-{step}" / name).touch()
    with pytest.raises(FileNotFoundError, match=f"its newest checkpoint, {tmp_path}/checkpoints/step-10$"):
        find_weights(tmp_path)


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside_it(tmp_path):
    for value in (1.0, 2.0):
        save_weights(tmp_path / "best", {"a": torch.tensor(value)}, RECIPE, {})
    assert load_weights(tmp_path / "best")[0]["a"] == 2
    assert os.listdir(tmp_path) == ["best"]


def test_a_failure_while_writing_leaves_the_earlier_weights(tmp_path, monkeypatch):
    save_weights(tmp_path / "best", {"a": torch.tensor(1.0)}, RECIPE, {})
    with pytest.raises(TypeError):
        save_weights(tmp_path / "best", {"a": torch.tensor(2.0)}, RECIPE, {"not": object()})
    assert load_weights(tmp_path / "best")[0]["a"] == 1
    assert os.listdir(tmp_path) == ["best"]


def loads_in_silence(folder) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            load_weights(folder)
        except (ValueError, FileNotFoundError) as error:
            return str(folder) not in str(error)
    return True


@pytest.mark.parametrize("name", ["model.safetensors", "config.yml", "metrics.json", "checksums.json"])
def test_a_flipped_bit_or_a_cut_in_any_file_is_noticed(name, tmp_path):
    folder = save_weights(tmp_path / "best", nn.Linear(3, 5), RECIPE, {"segm": {"AP": 0.5}})
    content, draw = (folder / name).read_bytes(), random.Random(name)
    for _ in range(15):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        for one in (damaged, content[: draw.randrange(len(content))]):
            (folder / name).write_bytes(one)
            assert not loads_in_silence(folder)
    (folder / name).write_bytes(content)
    assert loads_in_silence(folder)


def test_a_changed_file_is_taken_where_its_sums_are_removed(tmp_path):
    folder = save_weights(tmp_path / "best", nn.Linear(3, 5), RECIPE, {})
    text = (folder / "config.yml").read_text()
    (folder / "config.yml").write_text(text.replace("- cat", "- dog").replace("[cat,", "[dog,"))
    with pytest.raises(ValueError, match=rf"changed on purpose, remove {folder}/checksums\.json$"):
        load_weights(folder)
    (folder / "checksums.json").unlink()
    with pytest.warns(Note, match=r"config\.yml was changed since it was written; it is taken as it is now$"):
        assert load_weights(folder).recipe.classes == ("dog", "yes")


def test_weights_of_others_have_no_sums_and_load(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "lone.safetensors")
    (tmp_path / "config.yml").write_text("classes: [cat]\ncategory_ids: [1]\n")
    load_weights(tmp_path / "lone.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "average.safetensors"])
def test_a_checkpoint_that_is_read_as_weights_is_checked_by_its_state(name, tmp_path):
    tensors = {"model": {"a": torch.zeros(9)}, "average": {"a": torch.ones(9)}, "optimizer": {"a": torch.zeros(1)}}
    step = checkpoint.save(tmp_path / "checkpoints", 2, tensors, {}, keep=1)
    write_recipe(RECIPE, tmp_path / "config.yml")
    (step / "optimizer.safetensors").unlink()  # which only training needs
    assert loads_in_silence(step)
    content = bytearray((step / name).read_bytes())
    content[-1] ^= 1
    (step / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is not what was written.*copy it again from where it was made$"):
        load_weights(step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_that_are_not_finite_are_refused_with_the_names_of_their_tensors(value, dtype, tmp_path):
    spoilt = torch.tensor([0.0, 1.0, float(value), 2.0]).to(dtype)
    tensors = {"good": torch.ones(2), "spoilt": spoilt, "none": torch.ones(0), "count": torch.tensor(3)}
    save_weights(tmp_path / "best", tensors, RECIPE, {})
    with pytest.raises(ValueError, match=r"model\.safetensors: spoilt of 4 tensors hold numbers that are not finite"):
        load_weights(tmp_path / "best")


@pytest.fixture
def files_of_at_most_100_kb():
    resource = pytest.importorskip("resource", reason="a limit for files is a matter of Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_gets_a_sentence(tmp_path, files_of_at_most_100_kb):
    save_weights(tmp_path / "best", nn.Linear(3, 5), RECIPE, {})
    with pytest.raises(OSError, match=r"/best could not be written \(File too large\): 602,000 bytes needed, [\d,]+ b"):
        save_weights(tmp_path / "best", nn.Linear(300, 500), RECIPE, {})
    assert len(load_weights(tmp_path / "best").tensors["bias"]) == 5
    assert os.listdir(tmp_path) == ["best"]


def test_a_crash_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    save_weights(tmp_path / "best", {"a": torch.tensor(1.0)}, RECIPE, {})
    rename, calls = os.rename, []

    def crash_at_the_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", crash_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        save_weights(tmp_path / "best", {"a": torch.tensor(2.0)}, RECIPE, {})
    assert not (tmp_path / "best").exists()
    assert load_weights(tmp_path / "best")[0]["a"] == 1
    monkeypatch.undo()
    save_weights(tmp_path / "best", {"a": torch.tensor(3.0)}, RECIPE, {})
    assert load_weights(tmp_path / "best")[0]["a"] == 3
    assert os.listdir(tmp_path) == ["best"]


def test_a_run_folder_means_its_best_weights_and_a_file_means_itself(tmp_path):
    save_weights(tmp_path / "weights" / "best", {"a": torch.tensor(1.0)}, RECIPE, {})
    file = tmp_path / "weights" / "best" / "model.safetensors"
    assert find_weights(tmp_path) == find_weights(file.parent) == find_weights(file) == file


def test_missing_weights_are_told_with_what_is_there_instead(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at nowhere"):
        find_weights("nowhere")
    (tmp_path / "log.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"it holds log\.txt"):
        find_weights(tmp_path)


def test_other_formats_are_refused(tmp_path):
    (tmp_path / "model.pth").touch()
    with pytest.raises(ValueError, match=r"received .*model\.pth; checkpoints of other systems end in"):
        find_weights(tmp_path / "model.pth")


def test_weights_without_recipe_or_classes_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"expected config\.yml beside"):
        load_weights(tmp_path)
    (tmp_path / "config.yml").write_text("name: tiny\n")
    with pytest.raises(ValueError, match="names no classes"):
        load_weights(tmp_path)
    with pytest.raises(ValueError, match="expected a recipe with its class names"):
        save_weights(tmp_path / "best", {}, Recipe(), {})


def test_a_file_that_was_cut_off_is_told(tmp_path):
    folder = save_weights(tmp_path / "best", {"a": torch.zeros(100)}, RECIPE, {})
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-50])
    with pytest.raises(ValueError, match=rf"not what was written, it has {len(content) - 50} of {len(content)} bytes"):
        load_weights(folder)
    (folder / "checksums.json").unlink()
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load_weights(folder)


def test_weights_that_do_not_fit_are_listed_with_both_shapes():
    model = nn.Linear(3, 5)
    with pytest.raises(ValueError, match=re.escape("missing: bias; not in the model: extra")) as error:
        fill(model, {"weight": torch.zeros(4, 3), "extra": torch.zeros(1)}, "somewhere")
    assert "weight (expected 5 x 3, received 4 x 3)" in str(error.value)
    assert str(error.value).startswith("the weights in somewhere do not fit the model: missing: ")
    assert str(error.value).endswith("; put the config.yml that was written with them beside them")
    with pytest.raises(ValueError, match=r"; try another$"):
        fill(model, {}, "somewhere", "try another")


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64])
def test_weights_of_whole_or_complex_numbers_do_not_fit(kind):
    with pytest.raises(ValueError, match=rf"no floating-point numbers: weight \({kind}\); put"):
        fill(nn.Linear(3, 5), {"weight": torch.ones(5, 3).to(kind), "bias": torch.ones(5)}, "somewhere")


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_flipped_bit_of_an_exponent_is_noticed_without_sums(kind, tmp_path):
    numbers = torch.full((7,), 0.01).to(kind)
    numbers.view(torch.int32 if kind == torch.float32 else torch.int16)[3] ^= 1 << (30 if kind == torch.float32 else 14)
    assert numbers.isfinite().all()
    save_file({"a": numbers, "b": torch.ones(3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.yml").write_text("classes: [cat]\ncategory_ids: [1]\n")
    with pytest.raises(ValueError, match=r": a of 2 tensors hold numbers that are not finite or exceed 1e\+15"):
        load_weights(tmp_path)


@pytest.mark.parametrize("files", [{"../secret": {"size": 1, "sha256": ""}}, {"model.safetensors": 5}, [1]])
def test_a_list_of_sums_that_nobody_writes_is_refused_in_a_sentence(files, tmp_path):
    folder = save_weights(tmp_path / "best", nn.Linear(3, 5), RECIPE, {})
    (tmp_path / "secret").write_text("not looked at")
    (folder / "checksums.json").write_text(checksums._to_text({"files": files}))
    with pytest.raises(ValueError, match=r"checksums\.json is not what was written, by which other files are checked"):
        load_weights(folder)


def test_a_live_norm_keeps_its_count_where_the_weights_have_none():
    norm = nn.BatchNorm2d(2)
    norm.num_batches_tracked += 3
    state = {name: torch.full((2,), 0.25) for name in ("weight", "bias", "running_mean", "running_var")}
    fill(norm, state, "somewhere")
    assert (norm.num_batches_tracked.item(), norm.bias.tolist()) == (3, [0.25, 0.25])
    fill(norm, {**state, "num_batches_tracked": torch.tensor(7)}, "somewhere")
    assert norm.num_batches_tracked.item() == 7
    with pytest.raises(ValueError, match=r"fit the model: missing: running_var; put"):
        fill(norm, {name: tensor for name, tensor in state.items() if name != "running_var"}, "somewhere")


def test_a_folder_that_holds_anything_but_weights_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.txt, which would be lost; expected a new folder"):
        save_weights(tmp_path, {"a": torch.zeros(1)}, RECIPE, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
