"""Downloads from a server on this machine: resumed, begun anew where they must be, refused where they are wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from dpnet_lite.published.downloads import byte_bar, fetch_file, file_md5, no_bar

CONTENT = np.random.default_rng(0).bytes(600_000)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    has_ranges = True
    break_after: int | None = None  # bytes of an answer after which the line breaks
    breaks_left = 0
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []  # Range headers, in order
        self.sent = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.has_ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        if self.server.breaks_left > 0 and self.server.break_after is not None:
            self.server.breaks_left -= 1
            body = body[: self.server.break_after]
        self.server.sent += len(body)
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running() -> Iterator[tuple[Server, str]]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}/archive.tar"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, str]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running() as pair:
        yield pair


class Recorder:
    """A bar that remembers what it was told."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, int | None, int]] = []
        self.bytes = 0

    def __call__(self, name: str, total: int | None, initial: int) -> Recorder:
        self.opened.append((name, total, initial))
        return self

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, n: int) -> None:
        self.bytes += n


def test_a_file_comes_whole_and_is_not_fetched_twice(served: tuple[Server, str], tmp_path: Path) -> None:
    server, url = served
    path, bar = tmp_path / "new" / "archive.tar", Recorder()
    assert fetch_file(url, path, MD5, open_bar=bar) == path
    assert path.read_bytes() == CONTENT and [file.name for file in path.parent.iterdir()] == ["archive.tar"]
    assert bar.opened == [("archive.tar", len(CONTENT), 0)] and bar.bytes == len(CONTENT)
    fetch_file(url, path, MD5, open_bar=no_bar)
    assert server.asked == [None]
    assert file_md5(path) == MD5


def test_a_broken_line_is_continued(served: tuple[Server, str], tmp_path: Path) -> None:
    server, url = served
    server.break_after, server.breaks_left = 200_000, 2
    bar = Recorder()
    fetch_file(url, tmp_path / "a", MD5, open_bar=bar)
    assert server.asked == [None, "bytes=200000-", "bytes=400000-"] and server.sent == len(CONTENT)
    assert [initial for _, _, initial in bar.opened] == [0, 200_000, 400_000]
    assert {total for _, total, _ in bar.opened} == {len(CONTENT)}
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_later_call_goes_on_with_the_part(served: tuple[Server, str], tmp_path: Path) -> None:
    server, url = served
    server.break_after, server.breaks_left = 250_000, 1
    with pytest.raises(ConnectionError, match=r"broke off .* 250000 bytes are kept, run this again to go on"):
        fetch_file(url, tmp_path / "a", MD5, open_bar=no_bar, attempts=1)
    assert not (tmp_path / "a").exists() and (tmp_path / "a.part").stat().st_size == 250_000
    fetch_file(url, tmp_path / "a", MD5, open_bar=no_bar)
    assert server.sent == len(CONTENT) and (tmp_path / "a").read_bytes() == CONTENT


def test_the_last_bytes_count_without_a_checksum_too(served: tuple[Server, str], tmp_path: Path) -> None:
    server, url = served
    server.break_after, server.breaks_left = len(CONTENT) - 1, 1
    with pytest.raises(ConnectionError, match=f"broke off .* {len(CONTENT) - 1} bytes are kept"):
        fetch_file(url, tmp_path / "a", None, open_bar=no_bar, attempts=1)
    assert not (tmp_path / "a").exists()


def test_a_server_without_ranges_sends_all_again(served: tuple[Server, str], tmp_path: Path) -> None:
    server, url = served
    server.has_ranges = False
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    fetch_file(url, tmp_path / "a", MD5, open_bar=no_bar)
    assert server.asked == ["bytes=1000-"] and (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_whole_needs_no_more_bytes(served: tuple[Server, str], tmp_path: Path) -> None:
    server, url = served
    (tmp_path / "a.part").write_bytes(CONTENT)
    fetch_file(url, tmp_path / "a", MD5, open_bar=no_bar)
    assert server.sent == 0 and (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_begun_anew(served: tuple[Server, str], tmp_path: Path) -> None:
    _, url = served
    (tmp_path / "a.part").write_bytes(CONTENT + b"more")
    fetch_file(url, tmp_path / "a", MD5, open_bar=no_bar)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused(served: tuple[Server, str], tmp_path: Path) -> None:
    _, url = served
    with pytest.raises(ValueError, match=r"sent a file of another MD5 than 0{32}, which was deleted"):
        fetch_file(url, tmp_path / "a", "0" * 32, open_bar=no_bar)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.part").write_bytes(b"of another file" * 100)
    with pytest.raises(ValueError, match="another MD5"):
        fetch_file(url, tmp_path / "a", MD5, open_bar=no_bar)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_of_that_name_is_left_alone(served: tuple[Server, str], tmp_path: Path) -> None:
    _, url = served
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"has another MD5 than .*; delete or rename it"):
        fetch_file(url, tmp_path / "a", MD5, open_bar=no_bar)
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_refusals_and_dead_servers_say_what_to_do(served: tuple[Server, str], tmp_path: Path) -> None:
    server, url = served
    server.status = 404
    with pytest.raises(ConnectionError, match=r"answers 404 .* get the file in another way and put it at .*a$"):
        fetch_file(url, tmp_path / "a", MD5, open_bar=no_bar)
    assert len(server.asked) == 1  # asking again would not help
    with running() as (_, gone):
        pass
    with pytest.raises(ConnectionError, match=r"broke off .* 0 bytes are kept"):
        fetch_file(gone, tmp_path / "a", MD5, open_bar=no_bar, attempts=2)


def test_the_bar_shows_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    with byte_bar("archive.tar", 2048, 1024) as bar:
        bar.update(1024)
    text = capsys.readouterr().err
    assert "archive.tar: 100%" in text and "2.00k/2.00k" in text
