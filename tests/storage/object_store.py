"""An object store with S3's interface, over HTTP, as strict as Huawei's OBS and as unreliable as a test wants it.

It is asked as a proxy (`HTTP_PROXY`), so that addresses with the bucket in the host, `http://BUCKET.obs.test/KEY`, need
no name server. It refuses addresses with the bucket in the path, wrong signatures and optional checksums.
`python object_store.py PORT [LATENCY_SECONDS]` runs one in a process of its own, with objects put by whoever asks.
"""

import hashlib
import hmac
import itertools
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

DOMAIN = "obs.cn-north-4.myhuaweicloud.test"
REGION = "cn-north-4"
ID, SECRET = "PLANTEDIDPLANTEDID", "PLANTED/SECRET/PLANTED/SECRET"
Fault = Callable[["Request"], str]
"""Says what to do with a request: nothing (an empty text), or one of `FAULTS`."""
FAULTS = ("drop", "cut", "corrupt", "error", "stall", "no bucket")


class Request(NamedTuple):
    number: int
    verb: str
    key: str
    query: dict[str, str]
    range: str


class Thing(NamedTuple):
    content: bytes
    etag: str
    time: float


class Store:
    """What is stored, and how the server that offers it behaves. Survives the server, as a disk would."""

    def __init__(self) -> None:
        self.things: dict[tuple[str, str], Thing] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[Request] = []
        self.latency = 0.0
        self.fault: Fault = lambda request: ""
        self.port = 0
        self.token = ""
        self._server: Server | None = None

    def put(self, key: str, content: bytes, *, bucket: str = "bucket", etag: str = "") -> None:
        self.things[bucket, key] = Thing(content, etag or hashlib.md5(content).hexdigest(), time.time())

    def start(self) -> "Store":
        """Listen, after `kill` on the same port again."""
        self._server = Server(("127.0.0.1", self.port), Handler)
        self._server.store, self.port = self, self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def kill(self) -> None:
        """Stop listening and cut every connection, as a process that is killed."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            for connection in list(self._server.connections):
                _cut(connection)
            self._server = None

    def asked(self, verb: str, key: str = "") -> list[Request]:
        return [one for one in self.requests if one.verb == verb and one.key.startswith(key)]

    def variables(self) -> dict[str, str]:
        """What a person sets to reach it as OBS."""
        return {
            "HTTP_PROXY": f"http://127.0.0.1:{self.port}",
            "OBS_ENDPOINT": f"http://{DOMAIN}",
            "OBS_ACCESS_KEY_ID": ID,
            "OBS_SECRET_ACCESS_KEY": SECRET,
        }


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    store: Store

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.connections: set[socket.socket] = set()
        self.numbers = itertools.count(1)

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        store, url = self.server.store, urlsplit(self.path)
        host = (url.netloc or self.headers["Host"]).partition(":")[0]
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        bucket, _, domain = host.partition(".")
        key = unquote(url.path.removeprefix("/"))
        request = Request(next(self.server.numbers), self.command, key, query, self.headers.get("Range", ""))
        store.requests.append(request)
        time.sleep(store.latency)
        self.fault = store.fault(request)
        if self.fault == "drop":
            return self.drop()
        if self.fault == "stall":
            time.sleep(60)
        if self.fault == "error":
            return self.refuse(500, "InternalError")
        if self.fault == "no bucket":
            return self.refuse(404, "NoSuchBucket")
        if domain != DOMAIN:  # the bucket is in the path
            return self.answer(200, b"") if self.command == "HEAD" else self.refuse(404, "NoSuchKey")
        if complaint := self.complaint(url.path, query, host, body):
            return self.refuse(403, complaint)
        if bucket not in {"bucket", *(one for one, _ in store.things)}:
            return self.refuse(404, "NoSuchBucket")
        {"GET": self.get, "HEAD": self.get, "PUT": self.put, "POST": self.post, "DELETE": self.delete}[self.command](
            store, bucket, key, query, body
        )

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def get(self, store: Store, bucket: str, key: str, query: dict[str, str], body: bytes) -> None:
        if not key:
            return self.list(store, bucket, query)
        thing = store.things.get((bucket, key))
        if thing is None:
            return self.refuse(404, "NoSuchKey")
        etag = f'"{thing.etag}"'
        if self.headers.get("If-Match", etag) != etag:
            return self.refuse(412, "PreconditionFailed")
        headers = {"ETag": etag, "Last-Modified": formatdate(thing.time, usegmt=True), "Accept-Ranges": "bytes"}
        size, wanted = len(thing.content), self.headers.get("Range")
        if not wanted:
            return self.answer(200, thing.content, headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last) + 1 if last else size, size)
        if begin >= size:
            return self.refuse(416, "InvalidRange")
        self.answer(206, thing.content[begin:end], headers | {"Content-Range": f"bytes {begin}-{end - 1}/{size}"})

    def list(self, store: Store, bucket: str, query: dict[str, str]) -> None:
        prefix, after = query.get("prefix", ""), query.get("continuation-token") or query.get("start-after", "")
        keys = sorted(key for one, key in store.things if one == bucket and key.startswith(prefix) and key > after)
        folders: dict[str, None] = {}
        if delimiter := query.get("delimiter"):
            folders = dict.fromkeys(
                prefix + key.removeprefix(prefix).partition(delimiter)[0] + delimiter
                for key in keys
                if delimiter in key.removeprefix(prefix)
            )
            keys = [key for key in keys if delimiter not in key.removeprefix(prefix)]
        most = int(query.get("max-keys", 1000))
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-30T10:00:00.000Z</LastModified>"
            f"<ETag>&quot;{store.things[bucket, key].etag}&quot;</ETag>"
            f"<Size>{len(store.things[bucket, key].content)}</Size></Contents>"
            for key in keys[:most]
        )
        rows += "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in folders)
        more = f"<NextContinuationToken>{escape(keys[most - 1])}</NextContinuationToken>" if len(keys) > most else ""
        truncated = str(bool(more)).lower()
        self.xml(f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{rows}{more}</ListBucketResult>")

    def put(self, store: Store, bucket: str, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploadId" in query:
            if query["uploadId"] not in store.uploads:
                return self.refuse(404, "NoSuchUpload")
            store.uploads[query["uploadId"]][int(query["partNumber"])] = body
            return self.answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        if self.headers.get("If-None-Match") == "*" and (bucket, key) in store.things:
            return self.refuse(412, "PreconditionFailed")
        if source := self.headers.get("x-amz-copy-source"):
            there, _, name = unquote(source).lstrip("/").partition("/")
            body = store.things[there, name].content
        store.put(key, body, bucket=bucket)
        headers = {"ETag": f'"{store.things[bucket, key].etag}"'}
        if source:
            return self.xml(f"<CopyObjectResult><ETag>{headers['ETag']}</ETag></CopyObjectResult>")
        self.answer(200, b"", headers)

    def post(self, store: Store, bucket: str, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            number = f"upload-{len(store.uploads) + 1}"
            store.uploads[number] = {}
            return self.xml(
                f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>"
            )
        if "delete" in query:
            keys = [part.partition("</Key>")[0] for part in body.decode().split("<Key>")[1:]]
            for one in keys:
                store.things.pop((bucket, one), None)
            rows = "".join(f"<Deleted><Key>{one}</Key></Deleted>" for one in keys)
            return self.xml(f"<DeleteResult>{rows}</DeleteResult>")
        parts = store.uploads.pop(query["uploadId"], None)
        if parts is None:
            return self.refuse(404, "NoSuchUpload")
        ordered = [parts[number] for number in sorted(parts)]
        digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in ordered)).hexdigest()
        store.put(key, b"".join(ordered), bucket=bucket, etag=f"{digest}-{len(ordered)}")
        self.xml(f"<CompleteMultipartUploadResult><ETag>{digest}-{len(ordered)}</ETag></CompleteMultipartUploadResult>")

    def delete(self, store: Store, bucket: str, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploadId" in query:
            store.uploads.pop(query["uploadId"], None)
        else:
            store.things.pop((bucket, key), None)
        self.answer(204, b"")

    def complaint(self, path: str, query: dict[str, str], host: str, body: bytes) -> str:
        """What OBS would refuse; an empty text where all is right."""
        if any(name.lower().startswith(("x-amz-checksum", "x-amz-sdk-checksum")) for name in self.headers):
            return "NotImplemented"
        if self.server.store.token and self.headers.get("x-amz-security-token") != self.server.store.token:
            return "InvalidToken"
        told = self.headers.get("Authorization", "")
        if not told.startswith("AWS4-HMAC-SHA256 "):
            return "AccessDenied"
        parts = dict(part.strip().split("=", 1) for part in told.removeprefix("AWS4-HMAC-SHA256 ").split(","))
        digest = self.headers["x-amz-content-sha256"]
        if digest != "UNSIGNED-PAYLOAD" and digest != hashlib.sha256(body).hexdigest():
            return "XAmzContentSHA256Mismatch"
        names = parts["SignedHeaders"].split(";")
        signed = "".join(f"{name}:{host if name == 'host' else self.headers[name].strip()}\n" for name in names)
        pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query.items())
        asked = "&".join(f"{name}={value}" for name, value in pairs)
        canonical = "\n".join([self.command, path or "/", asked, signed, parts["SignedHeaders"], digest])
        identity, _, scope = parts["Credential"].partition("/")
        wanted = _signature(canonical, self.headers["x-amz-date"], scope)
        return "" if (identity, parts["Signature"]) == (ID, wanted) else "SignatureDoesNotMatch"

    def xml(self, content: str) -> None:
        self.answer(200, f'<?xml version="1.0" encoding="UTF-8"?>{content}'.encode())

    def refuse(self, status: int, code: str) -> None:
        """Answer as Amazon does, which repeats what it was told."""
        self.answer(
            status,
            f"<Error><Code>{code}</Code><Message>m</Message><AWSAccessKeyId>{ID}</AWSAccessKeyId></Error>".encode(),
        )

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.fault == "corrupt" and body:
            body = bytes([body[0] ^ random.randrange(1, 256)]) + body[1:]
        if self.fault == "cut":
            self.wfile.write(body[: len(body) // 2])
            return self.drop()
        if self.command != "HEAD":
            self.wfile.write(body)

    def drop(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        _cut(self.connection)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _signature(canonical: str, moment: str, scope: str) -> str:
    """The signature of version 4 that the owner of `SECRET` would make."""
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + SECRET.encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


if __name__ == "__main__":
    alone = Store()
    alone.port, alone.latency = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    alone.start()
    print(f"listening on {alone.port}", flush=True)
    threading.Event().wait()
