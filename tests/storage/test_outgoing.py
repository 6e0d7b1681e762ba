"""A run's folder in a store: what is there, in which order it got there, and when a checkpoint counts."""

import shutil
from pathlib import Path

import pytest

from maskrcnn.storage.location import at
from maskrcnn.storage.outgoing import Outgoing, steps_in
from maskrcnn.storage.staging import bring_checkpoint, bring_run, emptied, holds_a_run
from maskrcnn.storage.write import PART, check_writable

from .runs import FILES, RUN, begin, changes, here, save, there, write


@pytest.fixture
def folder(store, monkeypatch) -> Path:
    monkeypatch.setenv("MASKRCNN_STORAGE_PATIENCE", "0")  # what is not answered fails at once
    return begin()


def whole(path: Path) -> None:
    """What the training says of a checkpoint."""
    if b"damaged" in (path / "model.safetensors").read_bytes():
        raise ValueError("model.safetensors is not what was written")


def test_everything_but_drafts_gets_there_once(store, folder):
    write(folder, "weights/last/model.safetensors", bytes(range(256)) * (PART // 128))  # in parts
    save(folder, 2)
    expected = here(folder)
    write(folder, "weights/.last.123/model.safetensors", "half")
    write(folder, "checkpoints/.step-4/model.safetensors", "half")
    write(folder, "checkpoints/step-3/model.safetensors", "state.json is missing")
    Outgoing(folder, RUN).push()
    assert there(store) == expected
    store.requests.clear()
    Outgoing(folder, RUN).push()  # another process
    assert changes(store) == []
    write(folder, "log.txt", "a line\n")
    outgoing = Outgoing(folder, RUN)
    outgoing.push()
    assert changes(store) == ["PUT log.txt"]
    assert outgoing.missing() == []


def test_what_the_store_lost_is_written_again(store, folder):
    outgoing = Outgoing(folder, RUN)
    outgoing.push()
    del store.things["bucket", "runs/one/config.yml"]
    outgoing.compare()
    assert outgoing.missing() == ["config.yml"]
    outgoing.push()
    assert there(store) == here(folder)


def test_a_checkpoint_counts_when_all_of_it_and_all_before_it_is_there(store, folder):
    write(folder, "weights/best/model.safetensors", "best")
    save(folder, 2)
    Outgoing(folder, RUN).push()
    names = [change.partition(" ")[2] for change in changes(store)]
    assert names[-4:] == ["metrics.jsonl", *(f"checkpoints/step-2/{name}" for name in FILES)]


def test_metrics_never_tell_of_weights_that_are_not_there(store, folder):
    """An evaluation ends while the store is busy with an earlier file."""

    def evaluated(request):
        if request.verb == "PUT" and request.key.endswith("config.yml"):
            write(folder, "metrics.jsonl", '{"step": 1}\n{"step": 2, "evaluation": {}}\n')
        return ""

    store.fault = evaluated
    outgoing = Outgoing(folder, RUN)
    outgoing.push()
    assert there(store)["metrics.jsonl"] == b'{"step": 1}\n'
    outgoing.push()
    assert there(store)["metrics.jsonl"].count(b"\n") == 2


def test_a_checkpoint_that_is_written_again_does_not_count_meanwhile(store, folder):
    save(folder, 2, "spoilt")
    outgoing = Outgoing(folder, RUN)
    outgoing.push()
    store.requests.clear()
    save(folder, 2)
    outgoing.push()
    assert changes(store) == [
        "DELETE checkpoints/step-2/state.json",
        *(f"PUT checkpoints/step-2/{one}" for one in FILES),
    ]
    assert there(store) == here(folder)


def test_a_checkpoint_that_training_removes_meanwhile_never_counts(store, folder):
    path = save(folder, 2)

    def removed(request):
        if request.verb == "PUT" and request.key.endswith("step-2/model.safetensors"):
            (path / "optimizer.safetensors").unlink()
        return ""

    store.fault = removed
    Outgoing(folder, RUN).push()
    assert steps_in(list(there(store))) == []


def test_old_checkpoints_go_when_a_new_one_is_there(store, folder):
    for step in (2, 4):
        save(folder, step)
    Outgoing(folder, RUN).push()
    shutil.rmtree(folder / "checkpoints/step-2")
    outgoing = Outgoing(folder, RUN)
    outgoing.push()
    assert steps_in(list(there(store))) == [4, 2]  # it may be all that is left if step 4 is damaged
    store.requests.clear()
    save(folder, 6)
    outgoing.push()
    assert steps_in(list(there(store))) == [6, 4]
    assert [change for change in changes(store) if change.startswith("DELETE")] == [
        f"DELETE checkpoints/step-2/{name}" for name in ("state.json", "model.safetensors", "optimizer.safetensors")
    ]


@pytest.mark.parametrize("name", ["config.yml", "metrics.jsonl", "step-2/model.safetensors", "step-2/state.json"])
def test_an_upload_that_breaks_anywhere_goes_on_and_nothing_half_counts(name, store, folder):
    save(folder, 2)
    store.fault = lambda request: "drop" if request.verb == "PUT" and request.key.endswith(name) else ""
    with pytest.raises(ConnectionError, match="writing obs://bucket/runs/one"):
        Outgoing(folder, RUN).push()
    assert steps_in(list(there(store))) == []
    store.fault = lambda request: ""
    Outgoing(folder, RUN).push()
    assert there(store) == here(folder)


def test_an_empty_machine_gets_the_run_with_its_newest_checkpoint(store, folder, monkeypatch, tmp_path):
    for step in (2, 4):
        save(folder, step)
    write(folder, "weights/best/model.safetensors", "best")
    Outgoing(folder, RUN).push()
    store.put("runs/one/checkpoints/step-6/model.safetensors", b"its state.json did not get there")
    expected = here(folder)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "other"))
    brought = bring_run(RUN, whole, pytest.fail)
    assert brought is not None
    assert brought != folder
    assert here(brought) == {name: content for name, content in expected.items() if "step-2/" not in name}
    store.requests.clear()
    assert bring_run(RUN, whole, pytest.fail) == brought
    Outgoing(brought, RUN).push()
    assert {request.verb for request in store.requests} == {"GET"}  # lists
    save(brought, 6)
    Outgoing(brought, RUN).push()
    assert steps_in(list(there(store))) == [6, 4]


def test_a_damaged_checkpoint_is_passed_over(store, folder, monkeypatch, tmp_path):
    save(folder, 2)
    save(folder, 4, "damaged")
    Outgoing(folder, RUN).push()
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "other"))
    told = []
    brought = bring_run(RUN, whole, told.append)
    assert [path.name for path in (brought / "checkpoints").iterdir()] == ["step-2"]
    assert told == [
        "passing over a damaged checkpoint of obs://bucket/runs/one (model.safetensors is not what was written)"
    ]


def test_what_was_not_uploaded_when_a_run_was_killed_is_not_replaced_by_older_things(store, folder):
    save(folder, 2)
    Outgoing(folder, RUN).push()
    save(folder, 4)
    expected = here(folder)
    assert bring_run(RUN, whole, pytest.fail) == folder
    assert here(folder) == expected


@pytest.mark.parametrize("step", [1, 8])
def test_a_run_that_another_machine_put_there_replaces_what_is_here(step, store, folder):
    save(folder, 4)
    Outgoing(folder, RUN).push()
    for name in list(store.things):
        del store.things[name]
    store.put(f"runs/one/checkpoints/step-{step}/model.safetensors", b"of another machine")
    store.put(f"runs/one/checkpoints/step-{step}/state.json", b"{}")
    assert bring_run(RUN, whole, pytest.fail) == folder
    assert here(folder) == there(store)


def test_a_run_that_was_removed_from_the_store_is_not_put_there_again(store, folder):
    save(folder, 4)
    assert bring_run(RUN, whole, pytest.fail) == folder  # never was there
    Outgoing(folder, RUN).push()
    for name in list(store.things):
        del store.things[name]
    assert bring_run(RUN, whole, pytest.fail) is None
    assert not folder.exists()


def test_one_checkpoint_can_be_brought_alone(store, folder):
    save(folder, 2)
    Outgoing(folder, RUN).push()
    path = bring_checkpoint(RUN / "checkpoints/step-2")
    assert path.name == "step-2"
    assert here(path) == here(folder / "checkpoints/step-2")
    assert bring_checkpoint(RUN) is None


def test_an_address_without_a_run_holds_none(store, folder):
    assert not holds_a_run(RUN)
    assert bring_run(RUN, whole, pytest.fail) is None
    Outgoing(folder, RUN).push()
    assert holds_a_run(RUN)
    assert not holds_a_run(at("obs://bucket/runs/on"))


def test_an_address_is_tried_before_hours_of_work_are_lost_to_it(store, folder):
    check_writable(RUN)
    assert store.things == {}
    store.fault = lambda request: "error" if request.verb == "PUT" else ""
    with pytest.raises(ConnectionError, match=r"^writing to obs://bucket/runs/one: "):
        check_writable(RUN)


def test_a_refused_address_is_called_as_it_was_typed(store):
    with pytest.raises(ValueError, match=r"^https://host/runs can only be read, not listed or written"):
        check_writable(at("https://host/runs"))
    store.fault = lambda request: "no bucket"
    with pytest.raises(FileNotFoundError, match=r"^writing to obs://nowhere/runs: there is no bucket nowhere; correct"):
        check_writable(at("obs://nowhere/runs"))
    with pytest.raises(FileNotFoundError, match=r"^writing to obs://nowhere: there is no bucket nowhere; correct"):
        check_writable(at("obs://nowhere"))


def test_what_is_left_of_a_removed_run_is_not_uploaded_again(folder):
    write(folder, "log.txt", "of a removed run")
    assert emptied(RUN) == folder
    assert here(folder) == {}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', b"\xff"])
def test_a_damaged_record_of_uploads_is_told(content, store, folder):
    (folder.parent / "uploaded.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"uploaded\.json is damaged \(.*\), which says what of the files beside it"):
        Outgoing(folder, RUN)


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"files": 3}', b"\xff"])
def test_a_checkpoint_with_a_damaged_state_stays_here(content, store, folder):
    save(folder, 2)
    (folder / "checkpoints/step-2/state.json").write_bytes(content)
    Outgoing(folder, RUN).push()
    assert not any("step-2" in key for _, key in store.things)
