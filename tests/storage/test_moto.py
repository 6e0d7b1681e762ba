"""The same against moto's server, which somebody else wrote: a process of its own, killed and started again."""

import os
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

pytest.importorskip("moto", reason="moto is not installed")
pytest.importorskip("flask_cors", reason="moto's server is not installed")

import obstore

from maskrcnn.storage.fetch import fetch_file, fetch_folder
from maskrcnn.storage.location import at
from maskrcnn.storage.store import _opened, listing

NAMES = [f"data/{number:03}.jpg" for number in range(200)]
CONTENT = random.Random(0).randbytes(20 << 20)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Moto:
    """moto's server asked as a proxy: hosts such as bucket.s3.us-east-1.amazonaws.com need no name server."""

    def __init__(self):
        self.port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.05)
        self.fill()

    def fill(self):
        """Make the bucket and what is in it: moto keeps nothing when it ends."""
        store = obstore.store.S3Store(
            "bucket",
            endpoint="http://bucket.s3.us-east-1.amazonaws.com",
            region="us-east-1",
            access_key_id="id",
            secret_access_key="secret",
            virtual_hosted_style_request=True,
            client_options={"allow_http": True, "proxy_url": f"http://127.0.0.1:{self.port}"},
        )
        with suppress(obstore.exceptions.GenericError):  # a bucket has no ETag
            obstore.put(store, "", b"", use_multipart=False)
        for number, name in enumerate(NAMES):
            obstore.put(store, name, b"%d" % number)
        obstore.put(store, "big.bin", CONTENT)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Door:
    """One address for servers that come and go."""

    def __init__(self):
        self.port, self.moto, self.num_restarts = free_port(), Moto(), 0
        self.open()

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with suppress(OSError):
            while True:
                here, _ = self.listener.accept()
                there = socket.create_connection(("127.0.0.1", self.moto.port))
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self.pass_on, args=(one, other), daemon=True).start()

    def pass_on(self, one, other):
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def restart(self):
        """Kill the server with all its connections, and open the door again when another has the same objects."""
        self.num_restarts += 1
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.moto.kill()
        self.moto = Moto()
        self.open()


@pytest.fixture
def door(clean, cache):
    found = Door()
    _opened.cache_clear()
    variables = {
        "HTTP_PROXY": f"http://127.0.0.1:{found.port}",
        "OBS_ENDPOINT": "http://s3.us-east-1.amazonaws.com",
        "OBS_REGION": "us-east-1",
        "OBS_ACCESS_KEY_ID": "id",
        "OBS_SECRET_ACCESS_KEY": "secret",
        "MASKRCNN_STORAGE_PATIENCE": "60",
    }
    for name, value in variables.items():
        clean.setenv(name, value)
    yield found
    found.moto.kill()


def test_what_was_put_is_listed_and_copied_though_the_server_dies_in_between(door):
    names = [name.removeprefix("data/") for name in NAMES]
    assert [one.key for one in listing(at("obs://bucket/data"))] == names
    restarts = threading.Timer(0.1, door.restart)
    restarts.start()
    folder = fetch_folder("obs://bucket/data", say=lambda _: None)
    assert door.num_restarts == 1
    restarts.join()
    assert sorted(os.listdir(folder)) == names
    assert [(folder / name).read_bytes() for name in names] == [b"%d" % number for number in range(len(names))]
    assert fetch_file("obs://bucket/big.bin", say=lambda _: None).read_bytes() == CONTENT
