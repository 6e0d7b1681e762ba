"""Downloads, from a small server on this machine alone: `SCHEMES` lets its plain http through while these tests run."""

import hashlib
import io
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maskrcnn import files
from maskrcnn.files import cache_folder
from maskrcnn.storage import download, progress
from maskrcnn.storage.download import download as fetch
from maskrcnn.storage.progress import Meter

CONTENT = bytes(range(251)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = CONTENT[::-1] + b"longer"


class Server(ThreadingHTTPServer):
    """One file, `/file.pth`, and what can go wrong with it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.ranges, self.pause = CONTENT, '"first"', True, 0.0
        self.cuts = []  # bytes after which the next answers end
        self.asked = []  # (range, status) of each answer
        self.url = f"http://127.0.0.1:{self.server_port}/file.pth"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        if self.path == "/moved":
            return self.redirect(server.url)
        if self.path == "/elsewhere":
            return self.redirect("ftp://127.0.0.1/file.pth")
        if self.path != "/file.pth":
            return self.send_error(404)
        begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if begin and self.headers.get("If-Range") != server.etag:
            begin = 0
        status = 206 if begin else 200
        server.asked.append((wanted, status))
        self.send_response(status)
        self.send_header("Content-Length", str(len(server.content) - begin))
        if server.etag:
            self.send_header("ETag", server.etag)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        body = server.content[begin:]
        if server.cuts:
            body = body[: server.cuts.pop(0)]
        self.wfile.write(body[:1000])
        time.sleep(server.pause)
        self.wfile.write(body[1000:])

    def redirect(self, address):
        self.send_response(302)
        self.send_header("Location", address)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    return cache_folder()


def quiet(*_):
    pass


def held(cache):
    """Every file in the cache."""
    return sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file())


@pytest.fixture
def locks():
    """Without them each process downloads for itself."""
    if not files.HAS_LOCKS:
        pytest.skip("this system has no locks on files")


def cut_after(server, size, monkeypatch, **options):
    """A download that ends early, and what it leaves."""
    server.cuts = [size]
    with monkeypatch.context() as once:
        once.setattr(download, "ATTEMPTS", 1)
        with pytest.raises(FileNotFoundError, match=rf"ended after {size:,} of {len(server.content):,} bytes"):
            fetch(server.url, "file.pth", say=quiet, **options)
    server.asked.clear()


def test_a_file_is_downloaded_checked_and_kept(server, cache):
    said, seen = [], []
    path = fetch(
        server.url, "maker/file.pth", sha256=SHA256, say=said.append, progress=lambda *numbers: seen.append(numbers)
    )
    assert (path, path.read_bytes()) == (cache / "maker" / "file.pth", CONTENT)
    assert said == [f"downloading {server.url} to {path}", f"checked {path}: its SHA-256 is the published one"]
    assert (seen[0], seen[-1]) == ((0, len(CONTENT)), (len(CONTENT), len(CONTENT)))
    assert fetch(server.url, "maker/file.pth", sha256=SHA256, say=said.append) == path
    assert (len(said), server.asked) == (2, [(None, 200)])  # the second time it is there
    assert held(cache) == ["maker/file.pth"]


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ({"sha256": SHA256[:8]}, f"its SHA-256 starts with {SHA256[:8]}"),
        ({"sha256": SHA256[:8].upper()}, f"its SHA-256 starts with {SHA256[:8].upper()}"),
        ({"md5": hashlib.md5(CONTENT).hexdigest()[:6]}, f"its MD5 starts with {hashlib.md5(CONTENT).hexdigest()[:6]}"),
        ({}, "its length only, as no digest is published"),
    ],
)
def test_what_was_checked_is_told(server, digits, words):
    said = []
    path = fetch(server.url, "file.pth", say=said.append, progress=quiet, **digits)
    assert said[-1] == f"checked {path}: {words}"


def test_a_cut_connection_is_taken_up_again_at_once(server):
    server.cuts = [100_000, 200_000]
    assert fetch(server.url, "file.pth", sha256=SHA256, say=quiet, progress=quiet).read_bytes() == CONTENT
    assert server.asked == [(None, 200), ("bytes=100000-", 206), ("bytes=300000-", 206)]


@pytest.mark.usefixtures("locks")
def test_an_interrupted_download_goes_on_where_it_was(server, cache, monkeypatch):
    cut_after(server, 100_000, monkeypatch)
    assert held(cache) == ["file.pth.part", "file.pth.part.json"]
    seen = []
    assert fetch(server.url, "file.pth", say=quiet, progress=lambda done, _: seen.append(done)).read_bytes() == CONTENT
    assert (server.asked, seen[0]) == ([("bytes=100000-", 206)], 100_000)
    assert held(cache) == ["file.pth"]


@pytest.mark.usefixtures("locks")
def test_a_download_that_ctrl_c_ends_goes_on_too(server, cache):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    server.pause = 0.2
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url, "file.pth", say=quiet, progress=interrupt)
    begun = (cache / "file.pth.part").stat().st_size
    server.pause = 0.0
    assert fetch(server.url, "file.pth", say=quiet, progress=quiet).read_bytes() == CONTENT
    assert server.asked[1:] == [(f"bytes={begun}-", 206)]


@pytest.mark.usefixtures("locks")
def test_a_whole_file_without_its_final_name_is_not_downloaded_again(server, cache, monkeypatch):
    cut_after(server, 100_000, monkeypatch)
    (cache / "file.pth.part").write_bytes(CONTENT)
    assert fetch(server.url, "file.pth", sha256=SHA256, say=quiet, progress=quiet).read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.usefixtures("locks")
def test_a_file_that_changed_meanwhile_is_downloaded_anew(server, monkeypatch):
    cut_after(server, 100_000, monkeypatch)
    server.content, server.etag = OTHER, '"second"'
    assert fetch(server.url, "file.pth", say=quiet, progress=quiet).read_bytes() == OTHER
    assert server.asked == [("bytes=100000-", 200)]


@pytest.mark.usefixtures("locks")
def test_pieces_of_two_files_are_not_glued_by_a_server_that_ignores_the_condition(server, monkeypatch):
    cut_after(server, 100_000, monkeypatch)
    server.content = OTHER  # under the first one's mark, but longer
    assert fetch(server.url, "file.pth", say=quiet, progress=quiet).read_bytes() == OTHER
    assert server.asked == [("bytes=100000-", 206), (None, 200)]


@pytest.mark.usefixtures("locks")
def test_another_address_does_not_go_on_with_what_the_first_left(server, monkeypatch):
    cut_after(server, 100_000, monkeypatch)
    notes = cache_folder() / "file.pth.part.json"
    notes.write_text(notes.read_text().replace("/file.pth", "/older.pth"))
    assert fetch(server.url, "file.pth", say=quiet, progress=quiet).read_bytes() == CONTENT
    assert server.asked == [(None, 200)]


@pytest.mark.parametrize("notes", ["", "[]", '{"url": 3}', "\x00"])
def test_notes_that_say_nothing_begin_anew(server, monkeypatch, notes):
    cut_after(server, 100_000, monkeypatch)
    (cache_folder() / "file.pth.part.json").write_text(notes)
    assert fetch(server.url, "file.pth", say=quiet, progress=quiet).read_bytes() == CONTENT
    assert server.asked == [(None, 200)]


@pytest.mark.parametrize(("ranges", "etag"), [(False, '"first"'), (True, ""), (True, 'W/"weak"')])
def test_a_server_without_ranges_or_marks_starts_anew(server, monkeypatch, ranges, etag):
    server.ranges, server.etag = ranges, etag
    cut_after(server, 100_000, monkeypatch)
    assert fetch(server.url, "file.pth", sha256=SHA256, say=quiet, progress=quiet).read_bytes() == CONTENT
    assert [status for _, status in server.asked] == [200]


def test_a_wrong_digest_keeps_nothing(server, cache):
    words = rf"not the published file: its SHA-256 starts with {SHA256[:8]}, expected 00000000; nothing was kept"
    with pytest.raises(ValueError, match=words):
        fetch(server.url, "file.pth", sha256="00000000", say=quiet, progress=quiet)
    with pytest.raises(ValueError, match=r"its MD5 starts with \w{6}, expected 000000"):
        fetch(server.url, "file.pth", md5="000000", say=quiet, progress=quiet)
    assert held(cache) == []


def test_a_damaged_file_in_the_cache_is_not_used(server, cache):
    cache.mkdir()
    (cache / "file.pth").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"file\.pth is damaged: its SHA-256 starts with .*; delete it and try again"):
        fetch(server.url, "file.pth", sha256=SHA256, say=quiet)
    assert server.asked == []


def test_threads_that_ask_at_once_download_once(server, cache):
    server.pause = 0.3
    said = []
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(fetch, server.url, "file.pth", sha256=SHA256, say=said.append, progress=quiet) for _ in range(4)
        ]
        assert {answer.result().read_bytes() for answer in asked} == {CONTENT}
    assert server.asked == [(None, 200)]
    assert any(line.startswith("waiting for another process that downloads") for line in said)
    assert held(cache) == ["file.pth"]


CHILD = """
import sys
from maskrcnn import files
from maskrcnn.storage import download
download.SCHEMES = ("http",)
print(download.download(sys.argv[1], "file.pth", sha256=sys.argv[2], say=lambda _: None).read_bytes()[:3])
"""


def test_a_second_process_takes_over_where_the_first_was_killed(server, cache):
    command = [sys.executable, "-c", CHILD, server.url, SHA256]
    part = cache / "file.pth.part"
    server.pause = 60.0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        try:
            wait_until(lambda: part.exists() and part.stat().st_size == 1000)
            server.pause = 0.0
            with subprocess.Popen(command, stdout=subprocess.PIPE) as second:
                with pytest.raises(subprocess.TimeoutExpired):
                    second.wait(1.0)  # the first one has it
                first.kill()
                assert second.communicate(timeout=30)[0].decode().strip() == str(CONTENT[:3])
        finally:
            first.kill()
    assert server.asked == [(None, 200), ("bytes=1000-", 206)]
    assert held(cache) == ["file.pth"]


def wait_until(true):
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within half a minute")


def test_where_files_cannot_be_locked_each_writes_its_own(server, cache, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    server.pause = 0.2
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(fetch, server.url, "file.pth", say=quiet, progress=quiet) for _ in range(2)]
        assert {answer.result().read_bytes() for answer in asked} == {CONTENT}
    assert held(cache) == ["file.pth"]


def test_offline_a_sentence_says_which_file_goes_where(cache):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file.pth"
        with pytest.raises(FileNotFoundError) as error:
            fetch(url, "maker/file.pth", say=quiet)
    assert str(error.value).startswith(f"{url} could not be downloaded (")
    assert f"Download it by other means and save it as {cache / 'maker' / 'file.pth'}" in str(error.value)
    assert held(cache) == []


def test_a_file_that_is_not_there_is_told_the_same_way(server, cache):
    with pytest.raises(FileNotFoundError, match=r"none\.pth could not be downloaded \(HTTP Error 404: Not Found\)"):
        fetch(server.url.replace("file", "none"), "file.pth", say=quiet)
    assert held(cache) == []


def test_a_cache_that_cannot_be_written_is_told(server, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "taken"))
    with pytest.raises(FileNotFoundError, match=r"\(.*taken'?\)\. Download it .* or set MASKRCNN_CACHE"):
        fetch(server.url, "file.pth", say=quiet)


@pytest.mark.parametrize(
    "url", ["http://download.pytorch.org/file.pth", "file:///etc/passwd", "ftp://host/x", "file.pth"]
)
def test_only_https_addresses_are_asked(monkeypatch, url):
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"is refused: expected an address that begins with https://"):
        fetch(url, "file.pth", say=quiet)


def test_redirects_are_followed_to_allowed_schemes_only(server, cache):
    moved, elsewhere = (server.url.replace("file.pth", name) for name in ("moved", "elsewhere"))
    assert fetch(moved, "file.pth", say=quiet, progress=quiet).read_bytes() == CONTENT
    with pytest.raises(FileNotFoundError, match=r"it redirects to ftp://127\.0\.0\.1/file\.pth, which is not http"):
        fetch(elsewhere, "other.pth", say=quiet)


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "../x", "a/../x", "a/..", "/x", "//x", "a//x", "a/", "C:x", "C:/x", "a\\x", "..\\x", "~/x"),
        *("x\0", "x\n", "x y", "é", ".hidden", "a/.hidden", "x.part", "x.part.json"),
    ],
)
def test_paths_outside_the_cache_are_refused(server, path):
    with pytest.raises(ValueError, match=r"is not a path in the cache; expected names of letters, digits"):
        fetch(server.url, path, say=quiet)
    assert server.asked == []


@pytest.mark.parametrize("link", ["file.pth", "file.pth.part", "file.pth.part.json", "."])
def test_links_in_the_cache_are_refused(server, cache, tmp_path, link):
    (tmp_path / "outside").mkdir()
    cache.mkdir()
    if link == ".":
        (cache / "maker").symlink_to(tmp_path / "outside")
    else:
        (cache / "maker").mkdir()
        (cache / "maker" / link).symlink_to(tmp_path / "outside" / "file")
    with pytest.raises(ValueError, match=r"is a link; the cache holds only files and folders of its own"):
        fetch(server.url, "maker/file.pth", say=quiet)
    assert (server.asked, list((tmp_path / "outside").iterdir())) == ([], [])


def test_the_cache_itself_may_be_a_link(server, cache, tmp_path):
    (tmp_path / "disk").mkdir()
    cache.symlink_to(tmp_path / "disk")
    assert fetch(server.url, "file.pth", say=quiet, progress=quiet).read_bytes() == CONTENT


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (io.StringIO, "downloading r.pth: 25% of 200 MB, 5.0 MB/s\ndownloading r.pth: 50% of 200 MB, 7.5 MB/s\n"),
        (Terminal, "\r\x1b[Kdownloading r.pth: 25% of 200 MB, 5.0 MB/s\r\r\x1b[Kdownloading r.pth: 50% of 200 MB, "),
    ],
)
def test_progress_is_told_now_and_then_and_in_place_on_a_terminal(monkeypatch, stream, expected):
    now = iter([0.0, 0.0, 5.0, 5.1, 10.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(sys, "stderr", stream())
    meter = Meter("downloading r.pth")
    for done in (25_000_000, 50_000_000, 50_100_000, 100_000_000, 200_000_000):
        meter(done, 200_000_000)
    text = sys.stderr.getvalue()
    assert text.startswith(expected)
    assert text.endswith("\r\x1b[K" if sys.stderr.isatty() else "7.5 MB/s\n")


def test_a_file_of_unknown_length_is_told_in_megabytes(monkeypatch):
    now = iter([0.0, 0.0, 5.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    meter = Meter("downloading r.pth")
    meter(0, 0)
    meter(10_000_000, 0)
    assert sys.stderr.getvalue() == "downloading r.pth: 10 MB, 2.0 MB/s\n"
