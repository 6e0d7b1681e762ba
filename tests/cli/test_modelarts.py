"""What ModelArts and OpenI hand over, as arguments, as variables and in a recipe's file."""

import json
import os
import zipfile
from argparse import Namespace
from pathlib import Path

import pytest

from maskrcnn.cli import modelarts
from maskrcnn.cli.modelarts import Job, data_folder, find_cluster, find_job, split_words, start_processes, weights_of
from maskrcnn.config import Data
from maskrcnn.job import ENABLED, HANDED_OVER
from maskrcnn.recipes import read_recipe
from maskrcnn.runtime.launch import Cluster


@pytest.fixture
def runs(monkeypatch):
    """What the training loop was asked for."""
    asked = []
    monkeypatch.setattr("maskrcnn.train.loop.run", lambda *arguments, begun: asked.append(arguments))
    return asked


@pytest.fixture
def alone(monkeypatch):
    """No variables of a platform."""
    for name in [
        ENABLED,
        *HANDED_OVER,
        "RANK",
        "WORLD_SIZE",
        "MA_NUM_HOSTS",
        "MA_NUM_GPUS",
        "VC_WORKER_HOSTS",
        "VC_TASK_INDEX",
    ]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def coco(tmp_path, monkeypatch, alone) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("annotations", "train2017", "val2017"):
        (tmp_path / "data/coco2017" / name).mkdir(parents=True)
    return tmp_path / "data"


def flags(**given: str) -> Namespace:
    return Namespace(config="demo", **{name: given.get(name) for name in (ENABLED, *HANDED_OVER)})


def test_a_job_trains_on_its_data_into_its_results_and_goes_on_when_it_is_started_again(python, runs, coco, capsys):
    words = ["--enable_modelarts", "True", "--data_url", "data", "--train_url", "results", "--config", "demo"]
    unknown = ["--init_method", "tcp://job-0:6060", "--rank", "0", "--world_size=1"]
    assert python("train.py", *words, *unknown, "data.dataset_dir=coco2017", "--train.batch", "2") == 0
    [(recipe, out, resume)] = runs
    assert (recipe.data.dataset_dir, recipe.train.batch) == ("data/coco2017", 2)
    assert (out, resume) == (Path("results"), "auto")
    told = "arguments of the platform that change nothing here: init_method, rank, world_size"
    assert told in capsys.readouterr().err.splitlines()


def test_variables_and_the_recipe_hand_over_too_and_flags_win(python, runs, coco, monkeypatch):
    (coco.parent / "recipe.yml").write_text(
        f"__BASE__: {Path(__file__).parents[2] / 'config/demo.yml'}\n"
        "enable_modelarts: True\ndata_url: data\ntrain_url: of the recipe\nckpt_url:\n"
    )
    monkeypatch.setenv("train_url", "of the variable")
    assert python("train.py", "--config", "recipe.yml", "data.dataset_dir=coco2017") == 0
    assert python("train.py", "--config", "recipe.yml", "--train_url", "of the flag") == 0
    assert [str(out) for _, out, _ in runs] == ["of the variable", "of the flag"]
    assert [recipe.data.dataset_dir for recipe, *_ in runs] == ["data/coco2017", "data"]


def test_a_folder_of_results_that_is_typed_wins_over_variables(python, runs, coco, monkeypatch, capsys):
    monkeypatch.setenv("train_url", "of the variable")
    words = ["--config", "demo", "--enable_modelarts", "True", "--save_dir", "typed"]
    assert python("train.py", *words) == 0
    assert runs[0][1:] == (Path("typed"), "auto")
    assert python("train.py", *words, "--train_url", "results") == 2
    told = "error: --save_dir typed and --train_url both name the folder of results; leave one out\n"
    assert capsys.readouterr().err == told


def test_a_recipe_may_carry_the_keys_without_a_platform(runs, maskrcnn, python, coco):
    (coco.parent / "recipe.yml").write_text(
        f"__BASE__: {Path(__file__).parents[2] / 'config/demo.yml'}\n"
        "enable_modelarts: False\ndata_url: obs://nowhere/data\ntrain_url: obs://nowhere/results\n"
    )
    assert read_recipe("recipe.yml", ["name=demo"]) == read_recipe("demo")
    assert maskrcnn("train", "recipe.yml") == 0
    assert python("train.py", "--config", "recipe.yml") == 0
    assert [str(out) for _, out, _ in runs] == ["runs/train/demo"] * 2


def test_what_is_handed_over_outside_a_platform_has_no_effect(python, runs, coco, capsys):
    assert python("train.py", "--config", "demo", "--data_url", "data", "--train_url", "results") == 0
    assert runs[0][1] == Path("runs/train/demo")
    assert capsys.readouterr().err.count("has no effect without --enable_modelarts True") == 2


def test_an_unknown_argument_stops_a_run_outside_a_platform(python, runs, alone):
    assert python("train.py", "--config", "demo", "--init_method", "tcp://job-0:6060") == 2
    assert runs == []


def test_addresses_reach_the_recipe_and_the_run(python, runs, alone, monkeypatch):
    monkeypatch.setattr(modelarts, "listing", lambda folder: iter(["x"] if str(folder).endswith("coco2017") else []))
    words = ["--enable_modelarts", "True", "--data_url", "obs://bucket/data/", "--train_url", "obs://bucket/out/"]
    assert python("train.py", "--config", "demo", *words, "data.dataset_dir=/somewhere/coco2017") == 0
    [(recipe, out, resume)] = runs
    assert recipe.data.dataset_dir == "obs://bucket/data/coco2017"
    assert (str(out), resume) == ("obs://bucket/out", "auto")


def test_weights_to_begin_with_and_to_evaluate(python, coco, monkeypatch):
    asked = []
    monkeypatch.setattr("maskrcnn.cli.train.train", lambda *arguments: asked.append(arguments[3]))
    monkeypatch.setattr("maskrcnn.cli.evaluate.score_weights", lambda *arguments: asked.append(arguments[2:]))
    monkeypatch.setattr("maskrcnn.cli.predict.find_objects", lambda *arguments, **_: asked.append(arguments))
    Path("a.ckpt").touch()
    words = ["--enable_modelarts", "True", "--config", "demo", "--train_url", "out", "--ckpt_url", "a.ckpt"]
    models = json.dumps([{"model_url": "obs://bucket/b.ckpt", "model_name": "b.ckpt"}])
    assert python("train.py", *words, "--pretrain_url", models) == 0
    assert python("train.py", *words) == 0
    assert python("train.py", *words, "--weights", "mine") == 0
    assert python("eval.py", *words) == 0
    assert python("infer.py", *words, "--data_url", "data") == 0
    assert asked == ["obs://bucket/b.ckpt", "a.ckpt", "mine", (["a.ckpt"], "out"), ("a.ckpt", ["data"], "out")]


def test_doors_say_what_they_lack(python, coco, capsys):
    assert python("eval.py", "--config", "demo") == 2
    assert python("infer.py", "--ckpt_path", "a.ckpt") == 2
    assert capsys.readouterr().err == (
        "error: expected --ckpt_path, received none\nerror: expected --imgs, received none\n"
    )


def test_of_several_data_sets_the_one_with_the_training_images_is_taken(coco):
    (coco.parent / "other").mkdir()
    handed = json.dumps(
        [{"dataset_url": "other", "dataset_name": "other"}, {"dataset_url": "data", "dataset_name": "data.zip"}]
    )
    assert data_folder(Job(datasets=handed), Data(dataset_dir="coco2017")) == Path("data/coco2017")
    with pytest.raises(ValueError, match="expected one of other, data to hold images, found none"):
        data_folder(Job(datasets=handed), Data(dataset_dir="elsewhere", train_img_dir="images"))


def test_data_that_is_not_there_is_told_once_by_the_name_it_was_handed_over_with(
    python, runs, coco, monkeypatch, capsys
):
    monkeypatch.setattr(modelarts, "launch", None)
    monkeypatch.setenv("MA_NUM_GPUS", "2")
    Path("a.jpg").touch()
    words = ["--config", "demo", "--enable_modelarts", "True"]
    asked = {
        ("--data_url", "nowhere"): f"data_url: there is nothing at nowhere (working directory {Path.cwd()});",
        ("--data_url", "coco.zip"): "data_url: there is nothing at coco.zip",
        (
            "--multi_data_url",
            '[{"dataset_url": "a.jpg"}]',
        ): "multi_data_url: expected a data set's folder or",
    }
    for given, sentence in asked.items():
        assert python("train.py", *words, *given, "data.dataset_dir=coco2017") == 2
        assert capsys.readouterr().err.startswith(f"error: {sentence}")


@pytest.mark.parametrize(("data", "out"), [("data", "./data/"), ("obs://bucket/one", "obs://bucket/one/")])
def test_results_do_not_go_among_the_data(data, out, python, runs, coco, capsys):
    words = ["--config", "demo", "--enable_modelarts", "True", "--data_url", data, "--train_url", out]
    assert python("train.py", *words) == 2
    told = f"error: data_url and the folder of results are both {data}; choose another train_url\n"
    assert (capsys.readouterr().err, runs) == (told, [])


def test_a_data_set_that_is_typed_lies_in_what_was_handed_over(python, runs, coco, capsys):
    words = ["--config", "demo", "--enable_modelarts", "True", "--data_url", "data/coco2017"]
    assert python("train.py", *words, "data.dataset_dir=/any/where/coco2017") == 0
    assert python("train.py", *words, "data.dataset_dir=.") == 0
    assert [recipe.data.dataset_dir for recipe, *_ in runs] == ["data/coco2017"] * 2
    assert python("train.py", *words, "data.dataset_dir=other") == 2
    assert capsys.readouterr().err == (
        "error: data.dataset_dir=other: expected a folder inside data_url, data/coco2017, found none; leave it out, or "
        "hand over with --data_url what holds it\n"
    )


def test_an_archive_is_unpacked_once(coco, new_cache, monkeypatch):
    with zipfile.ZipFile("coco.zip", "w") as archive:
        archive.writestr("coco/train2017/a.jpg", "a picture")
    handed = json.dumps([{"dataset_url": "coco.zip", "dataset_name": "coco.zip"}])
    folder = data_folder(Job(datasets=handed), Data(dataset_dir="coco"))
    assert (folder / "train2017/a.jpg").read_text() == "a picture"
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert data_folder(Job(datasets=handed), Data(dataset_dir="coco")) == folder


@pytest.mark.parametrize("damage", [lambda whole: whole[:-9], lambda whole: whole.replace(b"a.txt", b"b.txt", 1)])
def test_a_damaged_archive_gets_a_sentence_and_leaves_nothing(damage, python, runs, coco, capsys):
    with zipfile.ZipFile("coco.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "a picture" * 9)
    Path("coco.zip").write_bytes(damage(Path("coco.zip").read_bytes()))
    words = ["--enable_modelarts", "True", "--data_url", "coco.zip", "--data_dir", "unpacked"]
    assert python("train.py", "--config", "demo", *words) == 2
    assert capsys.readouterr().err.startswith("error: coco.zip is damaged or cut off")
    assert list(Path("unpacked").iterdir()) == runs == []


def test_an_archive_is_unpacked_to_the_folder_that_was_handed_over_and_never_beside_it(coco, new_cache):
    with zipfile.ZipFile("coco.zip", "w") as archive:
        archive.writestr("coco/train2017/a.jpg", "a picture")
    folder = data_folder(Job(data="coco.zip", copy="unpacked"), Data(dataset_dir="coco"))
    assert folder.resolve().is_relative_to(Path("unpacked").resolve())
    with zipfile.ZipFile("coco.zip", "w") as archive:
        archive.writestr("../outside.txt", "this leads out")
    with pytest.raises(ValueError, match="leads out of the folder"):
        data_folder(Job(data="coco.zip", copy="unpacked"), Data(dataset_dir="coco"))


@pytest.mark.parametrize(
    ("handed", "received"),
    [
        ("[", "what is no JSON from character 1 on"),
        ("[]", "an empty list"),
        ('{"model_url": "/x"}', "an entry without the brackets of a list"),
        ('[{"model_url": "/x"}, {"url": "secret"}]', "no model_url in entry 2"),
        ('[7, {"model_url": null}]', "no model_url in entry 1, 2"),
    ],
)
def test_a_list_that_is_none_gets_a_sentence_without_its_content(handed, received):
    with pytest.raises(ValueError, match=r"^pretrain_url: ") as caught:
        weights_of(handed, "pretrain_url")
    example = '[{"model_url": "obs://BUCKET/NAME"}]'
    assert str(caught.value) == f"pretrain_url: expected JSON such as {example}, received {received}"


def test_one_model_is_taken():
    two = json.dumps([{"model_url": "a.ckpt"}, {"model_url": "b.ckpt"}])
    with pytest.raises(ValueError, match=r"^ckpt_url: expected one model, received 2: a\.ckpt, b\.ckpt"):
        weights_of(two, "ckpt_url")
    assert weights_of("", "ckpt_url") is None


def test_whether_there_is_a_platform_is_true_or_false(alone):
    assert find_job(flags(enable_modelarts="true"), {}) == Job()
    assert find_job(flags(), {"data_url": "data"}) is None
    assert find_job(flags(), {"enable_modelarts": "1", "DATA_URL": "data"}) == Job(data="data")
    with pytest.raises(ValueError, match="enable_modelarts: expected True or False, received 'maybe'"):
        find_job(flags(enable_modelarts="maybe"), {})


def test_settings_keep_their_values_among_arguments_of_the_platform():
    words = ["--a", "b=c", "--train.batch", "4", "--x", "--device", "cpu", "-y", "3", "name=z", "stray"]
    assert split_words(words) == (["--train.batch", "4", "--device", "cpu", "name=z"], ["a", "x", "y", "stray"])


HOSTS = {"MA_NUM_HOSTS": "3", "VC_TASK_INDEX": "2", "VC_WORKER_HOSTS": "job-0.job,job-1.job,job-2.job"}


@pytest.mark.parametrize(
    ("env", "cluster"),
    [
        ({}, Cluster(1, 0, 1, "127.0.0.1", 29500)),
        ({"MA_NUM_HOSTS": "1", "VC_TASK_INDEX": "0", "MA_NUM_GPUS": "0"}, Cluster(1, 0, 1, "127.0.0.1", 29500)),
        ({"MA_NUM_GPUS": "8", "VC_WORKER_HOSTS": "job-0.job"}, Cluster(1, 0, 8, "127.0.0.1", 29500)),
        ({**HOSTS, "MA_NUM_GPUS": "8"}, Cluster(3, 2, 8, "job-0.job", 29500)),
        ({**HOSTS, "MASTER_PORT": "6060"}, Cluster(3, 2, 1, "job-0.job", 6060)),
    ],
)
def test_variables_of_a_container_say_who_it_is(env, cluster):
    assert find_cluster(env) == cluster


@pytest.mark.parametrize("wrong", [{"VC_TASK_INDEX": "3"}, {"VC_WORKER_HOSTS": "job-0.job"}])
def test_variables_that_contradict_get_a_sentence(wrong):
    with pytest.raises(ValueError, match="expected a name for each machine and an index below their number"):
        find_cluster({**HOSTS, **wrong})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MA_NUM_HOSTS", "two", ">= 1"),
        ("MA_NUM_HOSTS", "0", ">= 1"),
        ("VC_WORKER_NUM", "-1", ">= 1"),
        ("VC_TASK_INDEX", "x", ">= 0"),
        ("MA_NUM_GPUS", "-1", ">= 0"),
        ("MASTER_PORT", "99999", "from 1 to 65535"),
        ("RANK_SIZE", "x", ">= 1"),
        ("RANK_ID", "1.5", ">= 0"),
    ],
)
def test_a_variable_that_is_no_number_is_named(name, value, expected, variables):
    env = {**HOSTS, "MA_NUM_HOSTS": "", "RANK_ID": "0", "RANK_SIZE": "1", name: value}
    with pytest.raises(ValueError, match=f"^{name}: expected a whole number {expected}, received '{value}'; correct"):
        start_processes(env)


@pytest.fixture
def variables(monkeypatch) -> dict[str, str]:
    changed: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", changed)
    return changed


def test_one_process_on_each_machine_is_this_one(variables):
    start_processes(HOSTS)
    assert (variables["RANK"], variables["WORLD_SIZE"], variables["LOCAL_RANK"]) == ("2", "3", "0")
    assert (variables["MASTER_ADDR"], variables["MASTER_PORT"]) == ("job-0.job", "29500")


def test_processes_that_a_platform_has_started_are_not_started_again(variables):
    start_processes({"MA_NUM_GPUS": "8", "RANK": "3", "WORLD_SIZE": "8"})
    start_processes({"MA_NUM_GPUS": "8", "OMPI_COMM_WORLD_RANK": "3"})
    assert "WORLD_SIZE" not in variables
    cards = {"MA_NUM_GPUS": "8", "RANK_ID": "19", "RANK_SIZE": "24", "RANK_TABLE_FILE": "/user/config/jobstart.json"}
    start_processes({**HOSTS, **cards})
    assert (variables["RANK"], variables["WORLD_SIZE"], variables["LOCAL_RANK"]) == ("19", "24", "3")


def test_a_process_for_each_device_is_started_and_its_code_is_the_end(monkeypatch):
    asked = []
    monkeypatch.setattr(modelarts, "launch", lambda *arguments: asked.append(arguments) or 130)
    with pytest.raises(SystemExit) as end:
        start_processes({"MA_NUM_GPUS": "2"})
    assert end.value.code == 130
    assert asked[0][1] == Cluster(1, 0, 2, "127.0.0.1", 29500)
