"""Recipes: what is read, what is refused, what is written."""

from pathlib import Path

import msgspec
import pytest

from maskrcnn import config
from maskrcnn.recipes import find_recipe, read_recipe, recipe_folder, write_recipe
from maskrcnn.recipes.describe import all_settings, describe
from maskrcnn.recipes.write import with_split

RECIPES = sorted(recipe_folder().rglob("*.yml"))


@pytest.fixture
def recipe_file(tmp_path: Path):
    def write(text: str, name: str = "mine.yml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def mistakes(path: Path | str, *overrides: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the test looks at the sentences)
        read_recipe(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_read_and_survives_writing(path, tmp_path):
    recipe = read_recipe(path)
    write_recipe(recipe, tmp_path / "config.yml")
    assert read_recipe(tmp_path / "config.yml") == recipe


def test_an_empty_recipe_has_every_default(recipe_file):
    assert read_recipe(recipe_file("# nothing\n")) == config.Recipe()


def test_the_seed_names_of_the_data_set_stand_in_coco():
    data = read_recipe("coco").data
    assert (data.dataset_dir, data.val_anno_path) == ("datasets/coco2017", "annotations/instances_val2017.json")


def test_the_three_schedules_of_resnet50():
    found = {
        name: (recipe.train.epochs, recipe.train.schedule.milestones, recipe.data.short_sides)
        for name in ("1x", "2x", "3x")
        for recipe in [read_recipe(f"config/maskrcnn/mask_rcnn_resnet50_fpn_{name}.yml")]
    }
    assert found == {
        "1x": (12, (8, 11), (800,)),
        "2x": (24, (16, 22), (800,)),
        "3x": (37, (29, 34), (640, 672, 704, 736, 768, 800)),
    }


def test_numbers_read_as_people_write_them(recipe_file):
    path = recipe_file("train: {seed: 010, optimizer: {lr: 1e-4, weight_decay: .5, momentum: 1}}\n")
    train = read_recipe(path).train
    assert (train.seed, train.optimizer.lr, train.optimizer.weight_decay) == (10, 0.0001, 0.5)
    assert train.optimizer.momentum == 1.0


def test_words_that_yaml_once_took_for_booleans_or_times_stay_text(recipe_file):
    recipe = read_recipe(recipe_file("name: 1:30\nclasses: [no, on, 2024-01-02]\ncategory_ids: [1, 2, 3]\n"))
    assert (recipe.name, recipe.classes) == ("1:30", ("no", "on", "2024-01-02"))


@pytest.mark.parametrize(
    "words",
    [
        ["train.batch=3"],
        ["--train.batch", "3"],
        ["--train.batch=3"],
        ["train={batch: 3}"],
        ["train.batch=5", "--train.batch", "3"],
    ],
)
def test_each_form_of_an_override_sets_the_value(words):
    assert read_recipe("demo", words).train.batch == 3


def test_text_on_the_command_line_is_taken_as_it_is():
    recipe = read_recipe("shapes", ["name=007", "--data.dataset_dir", "/a #b: [c", "--model.backbone.pretrained", ""])
    assert (recipe.name, recipe.data.dataset_dir, recipe.model.backbone.pretrained) == ("007", "/a #b: [c", "")
    assert read_recipe("demo", ["name='quoted'"]).name == "quoted"


def test_an_override_is_never_evaluated(tmp_path):
    target = tmp_path / "made"
    text = mistakes("demo", f"train.batch=!!python/object/apply:os.mkdir ['{target}']", "train.seed=__import__('os')")
    assert text.count("expected an integer") == 2
    assert not target.exists()


def test_a_file_that_runs_code_is_refused(recipe_file):
    path = recipe_file("name: !!python/object/apply:os.getcwd []\n")
    assert "not valid YAML" in mistakes(path)


@pytest.mark.parametrize("word", ["batch", "=3", "--train.batch"])
def test_an_override_without_key_or_value_is_refused(word):
    assert mistakes("demo", word) == f"expected a setting such as train.batch=8 or --train.batch 8, got {word!r}"


def test_bases_come_first_and_later_ones_win(recipe_file):
    recipe_file("train: {batch: 2, seed: 2, epochs: 2}\n", "two.yml")
    recipe_file("train: {batch: 3, seed: 3}\n", "deep/three.yml")
    path = recipe_file("__BASE__: [two.yml, deep/three.yml]\ntrain: {batch: 4}\n")
    train = read_recipe(path).train
    assert (train.batch, train.seed, train.epochs) == (4, 3, 2)


def test_a_base_is_relative_to_its_file_and_may_start_at_home(recipe_file, tmp_path, monkeypatch):
    recipe_file("name: home\n", "home/base.yml")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read_recipe(recipe_file("__BASE__: ~/base.yml\n", "other/place.yml")).name == "home"


def test_bases_in_a_circle_are_refused(recipe_file):
    recipe_file("__BASE__: b.yml\n", "a.yml")
    assert "__BASE__ goes in a circle" in mistakes(recipe_file("__BASE__: [a.yml]\n", "b.yml"))


def test_one_base_may_be_reached_twice(recipe_file):
    recipe_file("name: root\n", "root.yml")
    recipe_file("__BASE__: root.yml\n", "a.yml")
    recipe_file("__BASE__: root.yml\n", "b.yml")
    assert read_recipe(recipe_file("__BASE__: [a.yml, b.yml]\n")).name == "root"


def test_a_missing_base_is_named_with_the_file_that_wants_it(recipe_file):
    path = recipe_file("__BASE__: absent.yml\n")
    with pytest.raises(FileNotFoundError, match=r"mine\.yml: __BASE__ names absent\.yml"):
        read_recipe(path)


def test_every_mistake_is_reported_at_once_with_its_place(recipe_file):
    path = recipe_file("train: {batch: many, lr: 0.1}\nmodle: {backbone: resnet50}\ndata: {flip: 1.5}\n")
    assert mistakes(path, "model.backbone.norm=none").splitlines() == [
        f"5 mistakes in the recipe {path}:",
        f"  train.batch: expected an integer > 0, got 'many' ({path})",
        f"  train.lr: no such setting; did you mean train.optimizer.lr? ({path})",
        f"  modle: no such setting; did you mean model? ({path})",
        f"  data.flip: expected a number >= 0 and <= 1, got 1.5 ({path})",
        "  model.backbone.norm: expected one of batch_norm, fixed_batch_norm, "
        "frozen_batch_norm, group_norm, sync_batch_norm, got 'none' (command line)",
    ]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.batch=1.5", "train.batch: expected an integer > 0, got 1.5"),
        ("train.batch=", "train.batch: expected an integer > 0, got nothing"),
        ("train.batch=true", "train.batch: expected an integer > 0, got True"),
        ("train.tensorboard=yes", "train.tensorboard: expected true or false, got 'yes'"),
        ("train.optimizer.lr=.inf", "train.optimizer.lr: expected a number > 0, got '.inf'"),
        ("train.optimizer.lr=1e999", "train.optimizer.lr: expected a number > 0, got '1e999'"),
        ("data.mean=[1, x]", "data.mean: expected a list, each a number, got [1, 'x']"),
        (
            "data.short_sides=[800, x]",
            "data.short_sides: expected a list, each an integer > 0 and <= 1000000, got [800, 'x']",
        ),
        ("train=3", "train: expected a section, such as train.epochs, got 3"),
        ("train.batch={size: 3}", "train.batch: expected an integer > 0, got a section"),
        ("train.batch.size=3", "train.batch.size: no such setting; did you mean train.batch?"),
        ("epoch=3", "epoch: no such setting; did you mean train.epochs?"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_in_words(override, sentence):
    assert mistakes("demo", override) == f"{sentence} (command line)"


def test_text_that_reads_as_a_number_must_be_quoted_in_a_file(recipe_file):
    assert "expected text, got 2024; write it in quotes" in mistakes(recipe_file("name: 2024\n"))


def test_a_key_that_stands_twice_is_refused_with_its_line(recipe_file):
    path = recipe_file("train:\n  batch: 2\n  seed: 1\n  batch: 4\n")
    assert mistakes(path) == f"{path}: line 2: expected each key once in a section, got batch twice"


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "train: [1, 2\n", "1: 2\n", "\x00"])
def test_a_file_that_holds_no_settings_is_refused_by_name(recipe_file, text):
    assert "mine.yml" in mistakes(recipe_file(text))


def test_a_small_file_cannot_grow_without_bound(recipe_file):
    doubling = "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    text = mistakes(recipe_file(f"a0: &a0 x\n{doubling}data: {{short_sides: *a59}}\n"))
    assert len(text) < 20_000


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["model.rpn.positive_iou=0.2"],
            "model.rpn.positive_iou: expected at least model.rpn.negative_iou, 0.3",
        ),
        (["train.schedule.milestones=[11, 8]"], "train.schedule.milestones: expected ascending epochs, got [11, 8]"),
        (["train.schedule.milestones=[8, 12]"], "train.schedule.milestones: expected epochs before the last, 12"),
        (
            ["model.backbone.kind=resnext50_32x4d", "model.backbone.width=8"],
            "model.backbone.width: expected a multiple of 64, since the groups of resnext50_32x4d have whole channels, "
            "got 8",
        ),
        (
            ["model.backbone.kind=resnet18", "model.backbone.stride_in_1x1=true"],
            "model.backbone.stride_in_1x1: has no effect on resnet18, which has no bottlenecks",
        ),
        (
            ["model.point_head.num_points=7"],
            "model.point_head.num_points: has no effect without a point head; set model.point_head.enabled=true",
        ),
        (["train.ema=1.0"], "train.ema: expected a number >= 0 and < 1, got 1.0"),
        (["train.ema_warmup=100"], "train.ema_warmup: has no effect without train.ema; leave it out"),
        (
            ["model.backbone.norm=sync_batch_norm", "train.recompute=true"],
            "train.recompute: expected false, since live batch norm would update its statistics twice per step",
        ),
        (["train.schedule.kind=cosine", "train.schedule.decay=0.5"], "train.schedule.decay: has no effect on a cosine"),
        (["data.tile_overlap=0.3"], "data.tile_overlap: has no effect on whole images; set data.tile"),
        (["data.tile_empty=0.5"], "data.tile_empty: has no effect on whole images; set data.tile"),
        (["data.tile=512", "data.fit=box"], "data.fit: cannot go with data.tile, whose tiles are square"),
        (["data.tile=512", "data.remote=stream"], "data.remote: would fetch an image once for each of its tiles"),
        (
            ["train.optimizer.kind=adamw", "train.optimizer.momentum=0.8"],
            "train.optimizer.momentum: has no effect",
        ),
        (
            ["train.schedule.warmup_steps=0", "train.schedule.warmup_factor=0.5"],
            "train.schedule.warmup_factor: has no",
        ),
        (["train.micro_batch=32"], "train.micro_batch: expected at most train.batch, 16, got 32"),
        (["data.max_side=700"], "data.max_side: expected at least the largest of data.short_sides, 800, got 700"),
        (["data.short_sides=[]"], "data.short_sides: expected at least one length"),
        (["data.std=[1, 0, 1]"], "data.std: expected numbers > 0"),
        (["data.mean=[1, 2]"], "data.std: expected a number for each of the 2 bands of data.mean, got 3"),
        (["data.mean=[]"], "data.std: expected a number for each of the 0 bands of data.mean, got 3"),
        (["data.level_range=[[0, 9]]"], "data.level_range: has no effect on data.levels=full; set data.levels=fixed"),
        (
            ["data.levels=percentiles", "data.level_range=[[0, 9]]"],
            "data.level_range: has no effect on data.levels=percentiles; set data.levels=fixed, or data.level_range=[]",
        ),
        (["data.levels=percentiles", "data.augment.jpeg=50"], "data.augment.jpeg: has no effect on data.levels=perc"),
        (
            ["data.levels=fixed", "data.level_range=[[9, 9]]"],
            "data.level_range: expected pairs of a lower and a higher",
        ),
        (
            ["data.levels=fixed", "data.level_range=[[0, 9], [0, 8]]"],
            "data.level_range: expected one pair, or one for each of the 3 bands of data.mean, got 2",
        ),
        (["data.level_percentiles=[1, 99]"], "data.level_percentiles: has no effect on data.levels=full; set"),
        (
            ["data.levels=percentiles", "data.level_percentiles=[9, 9]"],
            "data.level_percentiles: expected 0 <= low < high <= 100, got [9.0, 9.0]",
        ),
        (["data.shown_bands=[1, 2]"], "data.shown_bands: expected one band or three, got 2"),
        (["model.rpn.aspect_ratios=[]"], "model.rpn.aspect_ratios: expected at least one ratio"),
        (["model.backbone.pretrained="], "model.backbone.frozen_stages: expected 0, since frozen stages stay random"),
        (
            ["model.backbone.pretrained=false"],
            "model.backbone.pretrained: expected imagenet, a published name or a file",
        ),
        (["classes=[cat]"], "classes: expected a name for each of the 0 category_ids, got 1 names"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides, sentence):
    assert mistakes("coco", *overrides).startswith(sentence)


def test_a_recipe_in_another_encoding_is_told_its_line(tmp_path):
    (tmp_path / "own.yml").write_bytes("name: own\n# für Züge\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"own.yml: expected UTF-8, received something else in line 2; save it as UTF"):
        read_recipe(tmp_path / "own.yml")


def test_defaults_are_never_called_idle():
    recipe = read_recipe("coco", ["train.epochs=1", "train.optimizer.kind=adamw", "train.schedule.kind=steps"])
    assert recipe.train.schedule.milestones == (8, 11)


def test_a_mistake_does_not_bring_contradictions_with_defaults_along(recipe_file):
    path = recipe_file("train: {epochs: many, schedule: {milestones: [16, 22]}}\n")
    assert mistakes(path) == f"train.epochs: expected an integer > 0, got 'many' ({path})"


def test_a_recipe_is_found_by_name_path_folder_and_document_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("demo") == find_recipe("config/demo.yml") == find_recipe("demo.yml")
    name = "mask_rcnn_resnet50_fpn_1x"
    assert find_recipe(name) == find_recipe(f"maskrcnn/{name}") == find_recipe(f"config/maskrcnn/{name}.yml")
    (tmp_path / "best").mkdir()
    write_recipe(read_recipe("demo"), tmp_path / "best" / "config.yml")
    assert read_recipe("best") == read_recipe("demo")


@pytest.mark.parametrize("path", ["mine/demo.yml", "runs/train/demo", "../config/demo.yml"])
def test_a_recipe_missing_from_a_folder_of_ones_own_is_not_replaced_by_ours(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no recipe at .*did you mean demo"):
        find_recipe(path)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(FileNotFoundError, match="did you mean nuclei"):
        find_recipe("nucleus")


def test_the_written_recipe_names_reasons_and_every_setting(tmp_path):
    write_recipe(config.Recipe(), tmp_path / "config.yml")
    text = (tmp_path / "config.yml").read_text()
    assert "  batch: 16  # Number of images per update, over all devices and accumulated micro-batches.\n" in text
    assert len(all_settings()) <= sum(not line.partition("#")[0].strip().endswith(":") for line in text.splitlines())


@pytest.mark.parametrize(
    "name", ["1e5", "no", "0x10", "1:30", " padded ", "a: b # c", "'", "漢字", "", "~", "12", ".5", "\x7f"]
)
def test_any_text_survives_writing(name, tmp_path):
    recipe = msgspec.structs.replace(config.Recipe(), name=name, classes=(name,), category_ids=(7,))
    write_recipe(recipe, tmp_path / "config.yml")
    assert read_recipe(tmp_path / "config.yml") == recipe


@pytest.mark.parametrize("rate", [1e-05, 1e-30, 3.0e20, 0.1 + 0.2])
def test_any_rate_survives_writing(rate, tmp_path):
    path = tmp_path / "config.yml"
    write_recipe(read_recipe("coco", [f"train.optimizer.lr={rate!r}"]), path)
    assert read_recipe(path).train.optimizer.lr == rate


def test_every_setting_can_be_described():
    from maskrcnn.recipes.check import _type_at

    assert all(describe(_type_at(path)) for path in all_settings())


def test_a_split_file_beside_a_recipe_goes_with_it_wherever_it_is_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = with_split("data:  # of a run\n  dataset_dir: cells\ntrain:\n  batch: 4\n", "split.json")
    assert plan.splitlines()[1] == "  split_file: split.json  # beside this file: the images that the run has set apart"
    assert with_split(plan, "other.json") == plan
    for folder in ("run", "moved"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "plan.yml").write_text(plan)
        assert read_recipe(f"{folder}/plan.yml").data.split_file == "split.json"  # as from the working directory
        (tmp_path / folder / "split.json").touch()
        assert read_recipe(f"{folder}/plan.yml").data.split_file == f"{folder}/split.json"
