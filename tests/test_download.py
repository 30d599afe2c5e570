"""Fetching files: whole and checked or not at all, and one message that says how to do without."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dltrain import training as run
from dltrain.data.download import Remote, fetch
from dltrain.data.images import mnist
from dltrain.data.images.idx import read_idx
from dltrain.errors import UserError
from tests.conftest import Compose
from tests.streams import opened

CONTENT = random.Random(0).randbytes(400_000)
PACKED = gzip.compress(CONTENT, mtime=0)
OTHERWISE = "Or do without: data=digits."


class Server(http.server.ThreadingHTTPServer):
    """Answers with what it was given, by address; counts who asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.seconds = 0.0
        """To wait in the middle of an answer."""
        self.cut_short_at: int | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is told of nowhere: it may be another test's turn by then."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = self.server.bodies.get(self.path.lstrip("/"))
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        time.sleep(self.server.seconds)
        self.wfile.write(body[half : self.server.cut_short_at])

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def remote(*urls: str) -> Remote:
    return Remote(urls, hashlib.sha256(CONTENT).hexdigest(), OTHERWISE)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


def refused() -> str:
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/file.gz"


def test_a_missing_file_is_fetched_unpacked_and_alone_in_its_folder(
    server: Server, tmp_path: Path
) -> None:
    server.bodies["file.gz"] = PACKED
    path = tmp_path / "new" / "folder" / "file"

    assert fetch(remote(server.url("file.gz")), path) == path
    assert path.read_bytes() == CONTENT
    assert files_in(tmp_path) == ["file"]


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"mine")

    fetch(remote(server.url("file.gz")), path)

    assert path.read_bytes() == b"mine"
    assert server.asked == []


def test_the_next_mirror_is_asked_where_one_has_no_such_file(
    server: Server, tmp_path: Path
) -> None:
    server.bodies["second/file.gz"] = PACKED

    fetch(remote(server.url("first/file.gz"), server.url("second/file.gz")), tmp_path / "file")

    assert server.asked == ["/first/file.gz", "/second/file.gz"]
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("body", "cut_short_at", "reason"),
    [
        (None, None, "Not Found"),
        (gzip.compress(CONTENT[:-1], mtime=0), None, "checksum"),
        (PACKED[:-100], None, "end-of-stream"),
        (PACKED, len(PACKED) // 2, ""),
        (PACKED[:50] + b"\0" * 50 + PACKED[100:], None, ""),
        (b"<html>not what you asked for</html>", None, "gzip"),
        (b"", None, "checksum"),
    ],
    ids=["absent", "another file", "truncated", "cut off", "damaged", "not gzip", "empty"],
)
def test_a_failed_download_leaves_nothing_and_says_what_to_do(
    body: bytes | None, cut_short_at: int | None, reason: str, server: Server, tmp_path: Path
) -> None:
    if body is not None:
        server.bodies["file.gz"] = body
    server.cut_short_at = cut_short_at
    url = server.url("file.gz")

    with pytest.raises(UserError) as raised:
        fetch(remote(url), tmp_path / "data" / "file")

    message = str(raised.value)
    assert message.startswith(f"file is missing from {tmp_path / 'data'}")
    assert f"{url}: " in message
    assert reason in message
    assert message.endswith(OTHERWISE)
    assert files_in(tmp_path) == []


def test_every_address_that_failed_is_told_with_its_reason(server: Server, tmp_path: Path) -> None:
    server.bodies["damaged.gz"] = PACKED[:-100]
    urls = [refused(), server.url("absent.gz"), server.url("damaged.gz"), "nonsense"]

    with pytest.raises(UserError) as raised:
        fetch(remote(*urls), tmp_path / "file")

    lines = str(raised.value).splitlines()[1:-1]
    assert all(line.strip().startswith(f"{url}: ") for line, url in zip(lines, urls, strict=True))
    assert "refused" in lines[0]
    assert files_in(tmp_path) == []


def test_after_a_failure_the_file_can_still_be_had(server: Server, tmp_path: Path) -> None:
    server.bodies["file.gz"] = PACKED[:-100]
    with pytest.raises(UserError):
        fetch(remote(server.url("file.gz")), tmp_path / "file")
    server.bodies["file.gz"] = PACKED

    assert fetch(remote(server.url("file.gz")), tmp_path / "file").read_bytes() == CONTENT


def test_what_a_killed_download_left_is_replaced(server: Server, tmp_path: Path) -> None:
    server.bodies["file.gz"] = PACKED
    server.seconds = 30
    path = tmp_path / "file"
    child = start_fetching(server.url("file.gz"), path)
    while not any(file.stat().st_size for file in tmp_path.iterdir()):
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    server.seconds = 0

    assert not path.exists()
    assert fetch(remote(server.url("file.gz")), path).read_bytes() == CONTENT
    assert files_in(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_is_told(server: Server, tmp_path: Path) -> None:
    server.bodies["file.gz"] = PACKED
    (tmp_path / "occupied").write_text("a file, not a folder")
    path = tmp_path / "occupied" / "data" / "file"

    with pytest.raises(UserError) as raised:
        fetch(remote(server.url("file.gz")), path)

    assert str(raised.value).startswith("file is missing and cannot be saved in")
    assert str(path.parent) in str(raised.value)
    assert str(raised.value).endswith(OTHERWISE)
    assert files_in(tmp_path) == ["occupied"]


def start_fetching(url: str, path: Path) -> subprocess.Popen[bytes]:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    program = (
        "from pathlib import Path\n"
        "from dltrain.data.download import Remote, fetch\n"
        f"fetch(Remote([{url!r}], {sha256!r}, ''), Path({str(path)!r}))\n"
    )
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)


def test_several_threads_and_processes_at_once_fetch_a_file_once(
    server: Server, tmp_path: Path
) -> None:
    server.bodies["file.gz"] = PACKED
    server.seconds = 0.5
    path = tmp_path / "file"
    source = remote(server.url("file.gz"))

    children = [start_fetching(server.url("file.gz"), path) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        contents = list(pool.map(lambda _: fetch(source, path).read_bytes(), range(4)))

    assert contents == [CONTENT] * 4
    assert [child.wait(300) for child in children] == [0, 0]
    assert server.asked == ["/file.gz"]
    assert files_in(tmp_path) == ["file"]


IMAGES, LABELS = (bytes([0, 0, 8, n]) for n in (3, 1))


def images(count: int, side: int = 28) -> bytes:
    return IMAGES + struct.pack(">3I", count, side, side) + bytes(count * side * side)


def labels(count: int) -> bytes:
    return LABELS + struct.pack(">I", count) + bytes(n % 10 for n in range(count))


TINY = {
    "train-images-idx3-ubyte": images(20),
    "train-labels-idx1-ubyte": labels(20),
    "t10k-images-idx3-ubyte": images(10),
    "t10k-labels-idx1-ubyte": labels(10),
}


@pytest.fixture
def tiny(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server of a very small MNIST."""
    for name, content in TINY.items():
        server.bodies[f"{name}.gz"] = gzip.compress(content, mtime=0)
        monkeypatch.setitem(mnist.FILES, name, hashlib.sha256(content).hexdigest())
    return server


def test_mnist_fetches_its_four_files_once_and_reads_them(tiny: Server, tmp_path: Path) -> None:
    source = mnist.Mnist(str(tmp_path), mirrors=[tiny.url("")], validation=0)

    for _ in range(2):
        loaders = opened(source)
        assert (loaders["train"].examples, loaders["test"].examples) == (20, 10)
    assert len(tiny.asked) == 4
    assert files_in(tmp_path / "MNIST" / "raw") == files_in(tmp_path) == sorted(TINY)


@pytest.mark.parametrize("folder", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_finds_files_where_others_put_them(
    folder: str, packed: bool, tiny: Server, tmp_path: Path
) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, content in TINY.items():
        path = tmp_path / folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content, mtime=0) if packed else content)

    loaders = opened(mnist.Mnist(str(tmp_path), mirrors=[tiny.url("")], validation=0))

    assert loaders["train"].examples == 20
    assert tiny.asked == []


def test_a_run_without_its_data_ends_in_one_message_and_leaves_no_run(
    tmp_path: Path, compose: Compose
) -> None:
    root, output_dir = tmp_path / "data", tmp_path / "outputs"
    config = compose("data=mnist", "model=mlp", f"+data.mirrors=[{refused()}]", "device=cpu")
    config["data"]["root"], config["output_dir"] = str(root), str(output_dir)

    with pytest.raises(UserError) as raised:
        run.train(config)

    for part in ("train-images-idx3-ubyte", "data.root=DIR", "data=digits", str(root)):
        assert part in str(raised.value)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("images", images(3)[:-1], "bytes"),
        ("images", images(3) + b"\0", "bytes"),
        ("images", images(3)[:9], "not an IDX file"),
        ("images", b"", "not an IDX file"),
        ("images", b"PK" + images(3)[2:], "not an IDX file"),
        ("images", labels(3) + bytes(16), "1 dimensions where 3 belong"),
        ("images", images(3, side=32), "(32, 32) where (28, 28) belong"),
        ("images.gz", gzip.compress(images(3), mtime=0)[:-10], "not a whole gzip file"),
        ("images.gz", images(3), "not a whole gzip file"),
        ("images.gz", gzip.compress(images(3), mtime=0)[:30] + bytes(30), "not a whole gzip file"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(
    name: str, content: bytes, problem: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UserError) as raised:
        read_idx(tmp_path / name, (28, 28))

    assert str(raised.value).startswith(f"{tmp_path / name} ")
    assert problem in str(raised.value)
    assert "data.root=DIR" in str(raised.value)


def test_images_and_labels_that_do_not_match_are_told(tmp_path: Path) -> None:
    for name, content in {**TINY, "train-labels-idx1-ubyte": labels(19)}.items():
        (tmp_path / name).write_bytes(content)

    with pytest.raises(UserError, match="20 images but 19 labels") as raised:
        mnist.Mnist(str(tmp_path)).read(0)
    assert str(tmp_path) in str(raised.value)
