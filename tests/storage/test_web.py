"""Files of the web, from a small server on this machine: its plain http stands for https while these tests run."""

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maskrcnn.config import Data
from maskrcnn.data.decode import read_image
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import open_split
from maskrcnn.storage import download, location
from maskrcnn.storage.fetch import exists, fetch_file, fetch_folder
from maskrcnn.storage.location import at
from maskrcnn.storage.read import read_bytes

QUERY = "X-Amz-Signature=PLANTED&id=3"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.etags, self.statuses = {}, [], True, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append((self.path, dict(self.headers)))
        if server.statuses:
            return self.send_error(server.statuses.pop(0))
        content = server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        etag = f'"{hash(content)}"'
        if self.headers.get("If-None-Match") == etag:
            self.send_response(304)
            return self.end_headers()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if server.etags:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(clean, cache):
    clean.setattr(location, "WEB", "http")
    clean.setattr(download, "SCHEMES", ("http",))
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def quiet(_):
    pass


def test_bytes_of_an_address(server):
    server.files[f"/a/x%20y.jpg?{QUERY}"] = b"content"
    assert read_bytes(f"{server.url}/a/x%20y.jpg?{QUERY}") == b"content"


def test_the_user_in_an_address_is_told_to_the_server_alone(server, cache, capfd):
    server.files["/x.bin"] = b"content"
    path = fetch_file(server.url.replace("//", "//me:PLANTED%21@") + "/x.bin")
    assert path.read_bytes() == b"content"
    told = base64.b64decode(server.asked[0][1]["Authorization"].removeprefix("Basic ")).decode()
    assert told == "me:PLANTED!"
    said = capfd.readouterr()
    assert "PLANTED" not in said.out + said.err


def test_a_copy_is_compared_when_it_is_used_again(server):
    server.files["/x.bin"] = b"first"
    url = f"{server.url}/x.bin"
    path = fetch_file(url, say=quiet)
    assert (path.name, fetch_file(url, say=quiet), len(server.asked)) == ("x.bin", path, 2)
    server.files["/x.bin"] = b"again"
    assert fetch_file(url, say=quiet).read_bytes() == b"again"


def test_without_marks_the_size_tells(server):
    server.etags, server.files["/x.bin"] = False, b"first"
    fetch_file(f"{server.url}/x.bin", say=quiet)
    server.files["/x.bin"] = b"longer now"
    assert fetch_file(f"{server.url}/x.bin", say=quiet).read_bytes() == b"longer now"


def test_an_address_that_is_signed_anew_is_the_same_file(server, cache):
    for signature in ("ONE", "TWO"):
        server.files[f"/x.bin?sig={signature}&id=3"] = b"content"
    first = fetch_file(f"{server.url}/x.bin?sig=ONE&id=3", say=quiet)
    assert fetch_file(f"{server.url}/x.bin?sig=TWO&id=3", say=quiet) == first
    server.files["/x.bin?sig=ONE&id=4"] = b"another"
    assert fetch_file(f"{server.url}/x.bin?sig=ONE&id=4", say=quiet) != first
    kept = [path for path in cache.rglob("*") if path.is_file()]
    assert not any(b"ONE" in path.read_bytes() or "ONE" in path.name for path in kept)


def test_without_the_server_the_copy_is_taken(server):
    server.files["/x.bin"] = b"content"
    path = fetch_file(f"{server.url}/x.bin", say=quiet)
    server.statuses, said = [503], []
    assert fetch_file(f"{server.url}/x.bin", say=said.append) == path
    assert said == [f"{server.url}/x.bin could not be compared (status 503); the copy is taken: {path}"]


def test_files_of_a_folder_are_named_and_keep_their_names(server):
    server.files |= {"/data/a%20b.jpg": b"1", "/data/sub/%C3%BC.jpg": b"22"}
    names = ["a b.jpg", "sub/ü.jpg"]
    folder = fetch_folder(f"{server.url}/data", names, say=quiet)
    assert [(folder / name).read_bytes() for name in names] == [b"1", b"22"]
    asked = len(server.asked)
    assert (fetch_folder(f"{server.url}/data", names, say=quiet), len(server.asked)) == (folder, asked)
    with pytest.raises(ValueError, match="a web server does not list its files; give their names"):
        fetch_folder(f"{server.url}/data", say=quiet)


@pytest.mark.parametrize("remote", ["copy", "stream"])
def test_a_data_set_of_the_web_is_named_by_its_annotation_file(server, tmp_path, remote):
    folder = generate(tmp_path / "shapes", num_train=2, num_val=3, side=64)
    for path in folder.rglob("*"):
        if path.is_file():
            server.files[f"/shapes/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    data = open_split(Data(dataset_dir=f"{server.url}/shapes", remote=remote), "val")
    found = [read_image(data.images / name) for name in data.file_names]
    assert found == [(folder / "val2017" / name).read_bytes() for name in data.file_names]


def test_failures_are_told_without_what_opens_the_address(server):
    url = f"{server.url}/x.jpg?{QUERY}"
    cases = [
        ([], FileNotFoundError, "does not exist; correct the address"),
        ([403], PermissionError, r"was refused \(status 403\)"),
        ([500] * 5, ConnectionError, r"cannot be read \(status 500\)"),
    ]
    for statuses, kind, words in cases:
        server.statuses = list(statuses)
        with pytest.raises(kind, match=words) as error:
            read_bytes(url)
        assert "PLANTED" not in str(error.value)
    server.statuses = [500, 500]
    server.files[f"/x.jpg?{QUERY}"] = b"content"
    assert read_bytes(url) == b"content"


def test_a_download_that_fails_is_told_without_what_opens_the_address(server):
    for name in ("x.bin", "x%0y .bin"):
        with pytest.raises(FileNotFoundError, match=r"could not be downloaded") as error:
            fetch_file(f"{server.url}/{name}?{QUERY}", say=quiet)
        assert "PLANTED" not in str(error.value)


def test_advice_for_a_download_that_fails_names_no_file_of_the_cache(server, cache):
    with pytest.raises(FileNotFoundError) as error:
        fetch_file(f"{server.url}/none.bin", say=quiet)
    assert str(error.value).endswith("other means and name the file, or its folder, in the place of the address")
    assert str(cache) not in str(error.value)


def test_a_server_that_cannot_be_reached_is_told_with_the_reason(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match=r"/x\.jpg cannot be read \(Connection refused\)"):
        read_bytes(f"{server.url}/x.jpg?{QUERY}")


def test_whether_there_is_a_file(server):
    server.files["/x.bin"] = b"content"
    assert (exists(f"{server.url}/x.bin"), exists(at(f"{server.url}/y.bin"))) == (True, False)
    server.statuses = [403]
    with pytest.raises(PermissionError):
        exists(f"{server.url}/x.bin")
