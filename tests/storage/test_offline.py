"""With a full cache the store is not needed: what was copied once is read when nobody answers."""

import pytest

from maskrcnn.config import Data
from maskrcnn.convert.bring import bring
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import open_split
from maskrcnn.storage import fetch
from maskrcnn.storage.fetch import first_there
from maskrcnn.storage.location import at


@pytest.fixture
def unreachable(store, monkeypatch):
    """Call it, and nobody answers any longer; nor is anybody waited for."""

    def kill():
        monkeypatch.setattr(fetch, "OFFLINE_PATIENCE", 0.1)
        monkeypatch.setenv("MASKRCNN_STORAGE_PATIENCE", "0.1")
        store.kill()

    return kill


@pytest.mark.parametrize("folder", ["annotations", "annotation"])
def test_a_data_set_that_was_copied_is_read(store, unreachable, tmp_path, folder):
    for path in generate(tmp_path / "shapes", num_train=2, num_val=2, side=64).rglob("*"):
        if path.is_file():
            name = path.relative_to(tmp_path).as_posix()
            store.put(name.replace("shapes/annotations/", f"shapes/{folder}/"), path.read_bytes())
    settings = Data(dataset_dir="obs://bucket/shapes")
    first = open_split(settings, "val")
    unreachable()
    again = open_split(settings, "val")
    assert (again.images, again.file_names) == (first.images, first.file_names)


@pytest.mark.parametrize(
    ("files", "source"),
    [
        (("model.safetensors", "config.yml"), ""),
        (("weights/last/model.safetensors", "weights/last/config.yml"), ""),
        (("model.safetensors", "config.yml"), "/model.safetensors"),
        (("other.safetensors",), "/other.safetensors"),
        (("model.pth",), "/model.pth"),
    ],
)
def test_weights_that_were_copied_are_found(store, unreachable, files, source):
    for name in files:
        store.put(f"runs/one/{name}", b"content")
    path = bring(at(f"obs://bucket/runs/one{source}"))
    unreachable()
    assert bring(at(f"obs://bucket/runs/one{source}")) == path
    with pytest.raises(ConnectionError):
        bring(at("obs://bucket/runs/never"))


def test_a_store_that_is_silent_is_waited_for_once(store, monkeypatch):
    names = [f"obs://bucket/{name}" for name in "abc"]
    for name in "abc":
        store.put(name, b"content")
    first = [fetch.fetch_file(name) for name in names]
    store.fault = lambda request: "error"
    monkeypatch.setattr(fetch, "OFFLINE_PATIENCE", 0.5)
    assert [fetch.fetch_file(name) for name in names[:1]] == first[:1]
    asked = len(store.requests)
    assert [fetch.fetch_file(name) for name in names] == first
    assert len(store.requests) == asked + 3
    store.fault = lambda request: ""
    fetch.fetch_file(names[0])
    assert not fetch.SILENT


def test_what_is_there_goes_before_what_was_copied(store):
    store.put("old", b"content")
    places = [at("obs://bucket/new"), at("obs://bucket/old")]
    fetch.fetch_file(places[1])
    store.put("new", b"content")
    assert first_there(places) == places[0]
    assert first_there([at("obs://bucket/none")]) is None
