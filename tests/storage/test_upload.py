"""What is written to an address gets there in the background, whatever the store does meanwhile."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from maskrcnn.storage import store as stores
from maskrcnn.storage import upload
from maskrcnn.storage.location import at
from maskrcnn.storage.outgoing import Outgoing
from maskrcnn.storage.upload import Upload, publishing, uploading

from .object_store import ID, SECRET
from .runs import RUN, begin, here, save, there, write


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Looks at the folder often, and gives up soon."""
    monkeypatch.setattr(upload, "EVERY", 0.02)
    monkeypatch.setattr(upload, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(upload, "AFTER_ERROR", 0.3)


@pytest.fixture
def folder(store, monkeypatch) -> Path:
    monkeypatch.setenv("MASKRCNN_STORAGE_PATIENCE", "0")  # what is not answered fails at once
    return begin()


def test_files_get_there_while_others_are_written(store, folder, capsys):
    with uploading(folder, RUN, pytest.fail):
        wait_for(lambda: "config.yml" in there(store))
        save(folder, 2)
        wait_for(lambda: "checkpoints/step-2/state.json" in there(store))
        write(folder, "report.html", "<html>")
    assert there(store) == here(folder)
    assert capsys.readouterr().out == "everything is at obs://bucket/runs/one\n"


def test_the_store_may_die_and_come_back_in_the_middle_of_an_upload(store, folder, monkeypatch):
    """It dies while half of the parts of a file are there, and later in the middle of a checkpoint."""
    write(folder, "weights/last/model.safetensors", os.urandom(3 * 2**20))
    monkeypatch.setattr("maskrcnn.storage.write.PART", 5 * 2**20)
    write(folder, "weights/best/model.safetensors", os.urandom(12 * 2**20))
    dead = threading.Event()

    def dies(request):
        if request.query.get("partNumber") == "2" or request.key.endswith("step-2/optimizer.safetensors"):
            store.fault = lambda request: "drop"
            threading.Thread(target=lambda: (store.kill(), dead.set())).start()
            return "drop"
        return ""

    said = []
    with uploading(folder, RUN, said.append):
        for save_something in (lambda: None, lambda: save(folder, 2)):
            store.fault = dies
            save_something()
            assert dead.wait(20)
            time.sleep(0.3)
            assert not any("step-2/state.json" in name for name in there(store))
            dead.clear()
            store.fault = lambda request: ""
            store.start()
            wait_for(lambda: "weights/best/model.safetensors" in there(store))
        save(folder, 4)
    assert there(store) == here(folder)
    sentence = "uploading to obs://bucket/runs/one does not succeed for now, and goes on later: "
    assert [line.startswith(sentence) for line in said] == [True, False, True, False]
    assert {line for line in said if not line.startswith(sentence)} == {"uploading to obs://bucket/runs/one goes on"}


def test_slow_and_broken_answers_delay_nobody_but_the_upload(store, folder):
    said = []
    with uploading(folder, RUN, said.append):
        store.latency = 0.02
        store.fault = lambda request: "error" if request.number % 3 == 0 else "drop" if request.number % 3 == 1 else ""
        started = time.monotonic()
        for step in range(1, 6):
            save(folder, step)
        written = time.monotonic() - started
    assert there(store) == here(folder)
    assert written < 1.0
    assert [line for line in said if "does not succeed" in line]


def test_what_is_missing_at_the_end_is_an_error_that_names_it(store, folder, monkeypatch):
    monkeypatch.setattr(upload, "AT_END", 0.3)
    Outgoing(folder, RUN).push()
    store.fault = lambda request: "error" if request.key.endswith("log.txt") else ""
    with (
        pytest.raises(ConnectionError, match=r"^1 file is not at obs://bucket/runs/one: log\.txt; they are kept in /"),
        uploading(folder, RUN, lambda text: None),
    ):
        write(folder, "log.txt", "a line\n")
    assert (folder / "log.txt").is_file()


def fail(folder: Path, told: str, first: Callable[[], None] = lambda: None) -> None:
    first()
    write(folder, "log.txt", told)
    raise ZeroDivisionError


def test_an_error_of_the_run_stays_the_error_and_what_it_left_is_uploaded(store, folder, monkeypatch):
    with pytest.raises(ZeroDivisionError), uploading(folder, RUN, pytest.fail):
        fail(folder, "failed\n")
    assert there(store)["log.txt"] == b"failed\n"
    said = []
    with pytest.raises(ZeroDivisionError), uploading(folder, RUN, said.append):
        fail(folder, "failed again\n", store.kill)
    assert said[-1].startswith("1 file is not at obs://bucket/runs/one: log.txt; ")


def test_nothing_secret_is_said_or_kept(store, folder, monkeypatch):
    monkeypatch.setattr(upload, "AT_END", 0.3)
    said = []
    for fault in ("error", "drop"):
        store.fault = lambda request, fault=fault: fault if request.verb == "PUT" else ""
        with pytest.raises(ConnectionError) as error, uploading(folder, RUN, said.append):
            pass
        said.append(str(error.value))
    store.fault = lambda request: ""
    monkeypatch.setenv("OBS_SECRET_ACCESS_KEY", "another secret of a person")
    stores._opened.cache_clear()
    with pytest.raises(PermissionError) as refused, publishing(RUN):
        pass
    said.append(str(refused.value))
    kept = b"".join(path.read_bytes() for path in folder.parent.parent.rglob("*") if path.is_file())
    assert len(said) >= 5
    for secret in (SECRET, ID, "another secret of a person"):
        assert not any(secret in line for line in said)
        assert secret.encode() not in kept


def test_a_path_is_written_directly(tmp_path):
    with publishing(tmp_path / "results") as folder:
        assert folder == tmp_path / "results"
    with uploading(tmp_path, tmp_path, pytest.fail):
        pass


def test_only_one_of_several_processes_uploads(store, folder):
    with uploading(folder, RUN, pytest.fail, active=False):
        pass
    with publishing(at("obs://bucket/results"), active=False) as other:
        assert other.name == "results"
    assert store.requests == []


def test_results_are_published(store):
    with publishing(at("obs://bucket/results")) as folder:
        write(folder, "predictions.json", "[]")
        write(folder, "a.png", "drawn")
    assert {key for _, key in store.things} == {"results/predictions.json", "results/a.png"}


def test_results_are_not_mixed_with_a_run(store, folder):
    """Its checkpoint is on this disk alone, then in the store as well, then there alone."""
    save(folder, 2)
    kept = here(folder)
    on_disk = (
        r"^obs://bucket/runs/one belongs to a run whose checkpoints are still in /.*; choose another --out, or remove"
    )
    with pytest.raises(ValueError, match=on_disk):
        publish(RUN)
    Outgoing(folder, RUN).push()
    assert there(store) == here(folder) == kept
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^obs://bucket/runs/one holds a run, .*; choose another --out$"):
            publish(RUN)
        shutil.rmtree(folder, ignore_errors=True)
    store.things.clear()
    for _ in range(2):  # an earlier evaluation, which has a recipe as well, is replaced
        publish(RUN)
    assert there(store).keys() == {"config.yml", "predictions.json"}


def publish(location) -> None:
    with publishing(location) as results:
        write(results, "config.yml", "name: one\n")
        write(results, "predictions.json", "[]")


def test_results_of_two_commands_for_one_address_do_not_disturb_each_other(store):
    address = at("obs://bucket/results")
    with publishing(address) as first:
        write(first, "a.png", "drawn")
        with publishing(address) as second:
            write(second, "b.png", "drawn")
        assert first.is_dir()
        assert not second.parent.exists()
    assert {key for _, key in store.things} == {"results/a.png", "results/b.png"}


def test_a_thread_ends_with_its_upload(store, folder):
    one = Upload(Outgoing(folder, RUN), pytest.fail, every=0.01)
    assert one.finish(20) == []
    assert not one._thread.is_alive()
