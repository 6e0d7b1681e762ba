import re
import weakref
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import torch
from msgspec.structs import replace

from maskrcnn.config import Neck, Recipe
from maskrcnn.runtime.distributed import World
from maskrcnn.train import checkpoint, loop
from maskrcnn.train.divergence import Course
from maskrcnn.train.remote import prepare
from maskrcnn.train.resume import check_same, find_start, growth

RECIPE = Recipe(classes=("disc", "ring"), category_ids=(1, 9))
DATA = {"images": 30, "objects": 90, "order": "ab", "contents": "cd"}


def save(out: Path, step: int, recipe: Recipe = RECIPE) -> Path:
    state = {"recipe": msgspec.to_builtins(recipe), "data": DATA}
    return checkpoint.save(out / "checkpoints", step, {"model": {"w": torch.ones(2)}}, state, keep=3)


def change(section: str, **settings: object) -> Recipe:
    return replace(RECIPE, **{section: replace(getattr(RECIPE, section), **settings)})


def test_an_empty_folder_starts_afresh(tmp_path):
    assert find_start(tmp_path, None, print) is None


def test_auto_takes_the_newest_or_says_that_there_is_none(tmp_path):
    told = []
    assert find_start(tmp_path, "auto", told.append) is None
    save(tmp_path, 4)
    save(tmp_path, 5)
    assert find_start(tmp_path, "auto", told.append).step == 5
    assert told == [
        f"there is no checkpoint in {tmp_path}; starting afresh",
        f"going on from {tmp_path / 'checkpoints' / 'step-5'}",
    ]


def test_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "config.yml").touch()
    with pytest.raises(ValueError, match="already holds a run; go on with it by --resume auto, or choose"):
        find_start(tmp_path, None, print)


@pytest.mark.parametrize("resume", [None, "auto", "other", "run/checkpoints/step-4"])
def test_what_its_launcher_starts_again_goes_on_with_its_own_newest_checkpoint(tmp_path, resume):
    out, source = tmp_path / "run", resume and (resume if resume == "auto" else str(tmp_path / resume))
    out.mkdir()
    save(tmp_path / "other", 3)
    (out / "config.yml").touch()
    if resume in (None, "other"):  # before its own first checkpoint
        begun = find_start(out, source, print, restarted=True)
        assert (begun and begun.step) == (None if resume is None else 3)
    save(out, 4)
    save(out, 5)
    assert find_start(out, source, print, restarted=True).step == 5


def test_a_run_that_its_launcher_starts_again_needs_no_word_to_go_on(tmp_path, monkeypatch):
    begun = []

    def set_up(recipe, out, world, log, start, weights, open_split):
        begun.append(start.step)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "set_up", set_up)
    (tmp_path / "config.yml").touch()
    save(tmp_path, 5)
    with pytest.raises(ValueError, match="already holds a run"):
        loop.run(replace(RECIPE, device="cpu"), tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(KeyboardInterrupt):
        loop.run(replace(RECIPE, device="cpu"), tmp_path)
    assert begun == [5]


@pytest.mark.parametrize("name", ["", "checkpoints", "checkpoints/step-5"])
def test_a_run_or_a_checkpoint_is_taken_by_its_path(tmp_path, name):
    save(tmp_path / "old", 5)
    assert find_start(tmp_path / "new", str(tmp_path / "old" / name), print).step == 5
    assert find_start(tmp_path / "old", str(tmp_path / "old" / name), print).step == 5


def test_an_old_checkpoint_branches_off_only_into_another_folder(tmp_path):
    old = save(tmp_path / "run", 4)
    save(tmp_path / "run", 5)
    assert find_start(tmp_path / "other", str(old), print).step == 4
    with pytest.raises(ValueError, match="has gone on to step-5 since step-4; choose another --out to branch off"):
        find_start(tmp_path / "run", str(old), print)


def test_a_checkpoint_of_another_run_does_not_go_on_in_this_one(tmp_path):
    save(tmp_path / "this", 4)
    save(tmp_path / "other", 5)
    with pytest.raises(ValueError, match="already holds another run"):
        find_start(tmp_path / "this", str(tmp_path / "other"), print)


def test_a_checkpoint_that_was_copied_may_have_any_name(tmp_path):
    copy = save(tmp_path / "old", 5).rename(tmp_path / "before the holidays")
    assert find_start(tmp_path / "new", str(copy), print).step == 5


def test_a_path_without_a_checkpoint_is_refused(tmp_path):
    nothing = (
        r"expected a checkpoint .*, found nothing \(working directory .*\); a file of weights, for --weights, would"
    )
    with pytest.raises(ValueError, match=nothing):
        find_start(tmp_path / "new", str(tmp_path / "nowhere.ckpt"), print)
    save(tmp_path / "old", 5)
    (tmp_path / "old/weights").mkdir()
    with pytest.raises(ValueError, match=f"found none; {re.escape(str(tmp_path / 'old'))} holds one$"):
        find_start(tmp_path / "new", str(tmp_path / "old/weights"), print)


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        change("train", epochs=99, micro_batch=1, log_every=3, mixed_precision=True),
        change("data", dataset_dir="elsewhere", num_workers=0),
        replace(RECIPE, model=replace(RECIPE.model, backbone=replace(RECIPE.model.backbone, pretrained=""))),
        replace(RECIPE, name="other", device="cpu"),
    ],
)
def test_length_place_and_speed_may_change(tmp_path, recipe):
    check_same(recipe, checkpoint.read(save(tmp_path, 5)), DATA)


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        (
            replace(RECIPE, model=replace(RECIPE.model, neck=Neck(channels=64))),
            "model.neck.channels: 256 in the checkpoint, 64 now",
        ),
        (change("data", short_sides=(600, 700)), r"data.short_sides: \[800\] in the checkpoint, \[600, 700\] now"),
        (change("train", batch=4), "train.batch: 16 in the checkpoint, 4 now"),
        (change("train", ema=0.9), "train.ema .* False in the checkpoint, True now"),
        (change("train", optimizer=replace(RECIPE.train.optimizer, kind="adamw")), "train.optimizer.kind: sgd"),
        (replace(RECIPE, classes=("disc", "star")), "classes"),
    ],
)
def test_what_decides_the_run_may_not(tmp_path, recipe, key):
    with pytest.raises(ValueError, match=f"belongs to another recipe: {key}"):
        check_same(recipe, checkpoint.read(save(tmp_path, 5)), DATA)


def test_a_run_lets_go_of_its_checkpoint_whose_mapped_files_windows_would_not_remove(tmp_path, monkeypatch):
    alive = []

    def set_up(recipe, out, world, log, start, weights, open_split):
        alive.append(weakref.ref(start.tensors["model"]["w"]))
        return SimpleNamespace(background=nullcontext())

    def go(training, wish):
        assert alive[0]() is None

    monkeypatch.setattr(loop, "set_up", set_up)
    monkeypatch.setattr(loop, "go", go)
    save(tmp_path, 5)
    loop.run(replace(RECIPE, device="cpu"), tmp_path, "auto")
    assert len(alive) == 1


@pytest.mark.parametrize("resume", [None, "auto"])
def test_a_run_that_is_stopped_says_whether_there_is_a_checkpoint_to_go_on_from(resume, tmp_path, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "set_up", stop)
    again = "the same command" if resume else f"--resume auto --out {tmp_path}"
    with pytest.raises(KeyboardInterrupt):
        loop.run(replace(RECIPE, device="cpu"), tmp_path, resume)
    assert f"stopped before the first checkpoint; begin afresh with {again}\n" in (tmp_path / "log.txt").read_text()
    save(tmp_path, 5)
    with pytest.raises(KeyboardInterrupt):
        loop.run(replace(RECIPE, device="cpu"), tmp_path, "auto")
    assert "stopped; go on with the same command\n" in (tmp_path / "log.txt").read_text()


def test_all_differences_are_listed_at_once(tmp_path):
    recipe = replace(change("train", batch=4, seed=7), model=replace(RECIPE.model, neck=Neck(channels=64)))
    with pytest.raises(ValueError, match="learnt from 30 images, the data have 31 now") as caught:
        check_same(recipe, checkpoint.read(save(tmp_path, 5)), DATA | {"images": 31})
    assert all(key in str(caught.value) for key in ("model.neck.channels", "train.batch", "train.seed"))


def test_an_address_of_this_machine_is_a_path(tmp_path):
    found = prepare(tmp_path / "out", f"file://{tmp_path}/step-2", World(torch.device("cpu")), print)
    assert found == (tmp_path / "out", tmp_path / "out", str(tmp_path / "step-2"))


def test_data_that_have_grown_are_told_with_the_way_on(tmp_path):
    found = checkpoint.read(save(tmp_path, 5))
    with pytest.raises(ValueError, match=r"learnt from 30 images, the data have 31 now; .* --weights .* --out"):
        check_same(RECIPE, found, DATA | {"images": 31})


def test_a_setting_that_came_later_had_its_default_before(tmp_path):
    found = checkpoint.read(save(tmp_path, 5))
    del found.state["recipe"]["data"]["augment"]
    check_same(RECIPE, found, DATA)
    augmented = change("data", augment=replace(RECIPE.data.augment, strength="light"))
    with pytest.raises(ValueError, match=r"data\.augment\.strength: off in the checkpoint, light now"):
        check_same(augmented, found, DATA)


def save_course(out: Path, step: int, sound: list[int]) -> Path:
    course = {"loss": 4e5, "course": {"lowest": 0.41, "recent": [4e5], "sound": sound}}
    state = {"recipe": msgspec.to_builtins(RECIPE), "data": DATA, **course}
    return checkpoint.save(out / "checkpoints", step, {"model": {"w": torch.ones(2)}}, state, keep=5)


def test_what_goes_on_from_after_the_losses_grew_is_told_which_checkpoint_is_from_before(tmp_path):
    save_course(tmp_path, 20, [10, 20])
    save_course(tmp_path, 30, [20])
    told = []
    assert find_start(tmp_path, "auto", told.append).step == 30
    assert told[1:] == [
        "the losses had grown before step-30: 4e+05 on average, 0.41 at their lowest; step-20 is from before, "
        f"--resume {tmp_path / 'checkpoints/step-20'} --out {tmp_path} goes on from it"
    ]


def test_a_run_goes_on_from_before_the_losses_grew_in_its_own_folder(tmp_path):
    old = save_course(tmp_path, 20, [10, 20])
    save_course(tmp_path, 30, [20])
    (save_course(tmp_path, 40, [20]) / "state.json").write_text("{}")
    assert find_start(tmp_path, str(old), print).step == 20
    save_course(tmp_path, 35, [20, 35])  # learnt again
    with pytest.raises(ValueError, match="has gone on to step-35 since step-20"):
        find_start(tmp_path, str(old), print)


def test_where_the_losses_grew_before_the_first_checkpoint_that_is_told(tmp_path):
    save_course(tmp_path, 30, [])
    told = []
    find_start(tmp_path, "auto", told.append)
    assert told[1].endswith("there is no checkpoint from before; begin anew with another --out")


def test_a_checkpoint_that_is_still_being_written_is_not_called_the_newest_by_the_way_back(tmp_path):
    save_course(tmp_path, 20, [10, 20])
    course = Course(loss=4e5, lowest=0.41, sound=[20], saved=30)
    assert f"--resume {tmp_path / 'checkpoints/step-20'} " in growth(course, tmp_path, tmp_path)


def test_data_that_were_changed_are_refused_with_what_and_the_way_on(tmp_path):
    found = checkpoint.read(save(tmp_path, 5))
    for values, what in [
        ({"objects": 89}, "learnt from 90 objects, the data have 89 now"),
        ({"order": "zz"}, "learnt from the same images in another order"),
        ({"order": "zz", "contents": "zz"}, "of which some have another name, size, category, box or outline now"),
    ]:
        with pytest.raises(ValueError, match=rf"{what}; restore the data, or .* --weights .* and another --out"):
            check_same(RECIPE, found, DATA | values)


def test_a_checkpoint_from_before_data_were_compared_goes_on_with_as_many_images(tmp_path):
    found = checkpoint.read(save(tmp_path, 5))
    found.state["num_images"] = found.state.pop("data")["images"]
    check_same(RECIPE, found, DATA)
    with pytest.raises(ValueError, match="learnt from 30 images, the data have 31 now"):
        check_same(RECIPE, found, DATA | {"images": 31})


def test_a_checkpoint_that_this_user_may_not_read_is_a_sentence(tmp_path, monkeypatch):
    path = save(tmp_path, 5)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path / "state.json"))

    monkeypatch.setattr(checkpoint, "read", refuse)
    for resume in ("auto", str(path), str(tmp_path)):
        with pytest.raises(ValueError, match=r"step-5/state\.json may not be read by this user; ask its owner"):
            find_start(tmp_path, resume, print)
