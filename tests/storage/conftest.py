"""An object store on this machine, reached as Huawei's OBS, and a cache of its own for each test."""

import os

import pytest

from maskrcnn.storage.store import _opened

from .object_store import Store

NAMES = ("AWS_", "OBS_", "S3_", "AccessKeyID", "SecretAccessKey", "SecurityToken", "GOOGLE_", "AZURE_", "MASKRCNN_S")


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """No credentials, endpoints or proxies of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(NAMES) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture
def cache(new_cache):
    return new_cache


@pytest.fixture
def store(clean, cache):
    """A running store, `obs://bucket/`; what is put into it is there."""
    found = Store().start()
    _opened.cache_clear()  # those of other tests go through other ports
    for name, value in {**found.variables(), "MASKRCNN_STORAGE_PATIENCE": "20"}.items():
        clean.setenv(name, value)
    yield found
    found.kill()
