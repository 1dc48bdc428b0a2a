"""Downloads that can be stopped and go on, and whose files count only once their checksum is right."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Protocol, cast

from tqdm import tqdm

_CHUNK = 1 << 18  # bytes read at a time
_RANGE_NOT_SATISFIABLE = 416


class ByteBar(Protocol):
    """What `fetch_file` needs of a progress bar; tqdm's has it."""

    def update(self, n: int) -> object: ...


class OpenBar(Protocol):
    """Opens a bar: `total` bytes where known, of which `initial` are there already."""

    def __call__(self, name: str, total: int | None, initial: int) -> AbstractContextManager[ByteBar]: ...


def byte_bar(name: str, total: int | None, initial: int) -> AbstractContextManager[ByteBar]:
    """A bar with bytes, speed and the time left."""
    bar = tqdm(desc=name, total=total, initial=initial, unit="B", unit_scale=True, unit_divisor=1024, mininterval=0.5)
    return cast(AbstractContextManager[ByteBar], bar)


class _NoBar:
    def update(self, n: int) -> None:
        pass


def no_bar(name: str, total: int | None, initial: int) -> AbstractContextManager[ByteBar]:
    """No output."""
    return nullcontext(_NoBar())


def file_md5(path: Path) -> str:
    """MD5 (hex) of a file: what VOC's and SBD's publishers give, against damage and not against attackers."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch_file(
    url: str, path: Path, md5: str | None, *, open_bar: OpenBar = byte_bar, attempts: int = 4, timeout: float = 60.0
) -> Path:
    """Download `url` to `path`; what is there and right is kept, what is half there is continued.

    Bytes go to `path`.part, which a later call continues by an HTTP Range request; a server without ranges sends
    everything again. The file gets its name only when it is whole and its checksum right, so a file of that name is
    never a broken one of ours. A part whose checksum is wrong is deleted.

    Args:
        url: http, https or file address.
        path: the file; its folder is made.
        md5: of the whole file (hex); None checks nothing.
        open_bar: the progress bar.
        attempts: connections that may break before giving up, each continuing where the last one ended.
        timeout: seconds without any byte that count as broken.

    Raises:
        ConnectionError: the server cannot be reached, refuses, or the last attempt broke off; the part is kept.
        ValueError: the checksum is wrong, or a file of that name is there and has another checksum.
    """
    if path.is_file():
        if md5 is not None and file_md5(path) != md5:
            raise ValueError(f"{path} has another MD5 than {md5}; delete or rename it, then run this again")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for attempt in range(1, attempts + 1):
        try:
            _continue_part(url, part, path.name, open_bar, timeout)
            break
        except urllib.error.HTTPError as error:
            error.close()
            raise ConnectionError(f"{url} answers {error.code} ({error.reason}); {_by_hand(path)}") from None
        except (OSError, http.client.HTTPException) as error:
            if attempt == attempts:
                reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
                kept = part.stat().st_size if part.is_file() else 0
                raise ConnectionError(
                    f"{url} broke off ({reason}); {kept} bytes are kept, run this again to go on, or {_by_hand(path)}"
                ) from None
    if md5 is not None and file_md5(part) != md5:
        part.unlink()
        raise ValueError(f"{url} sent a file of another MD5 than {md5}, which was deleted; run this again")
    part.replace(path)
    return path


def _by_hand(path: Path) -> str:
    return f"get the file in another way and put it at {path}"


def _continue_part(url: str, part: Path, name: str, open_bar: OpenBar, timeout: float) -> None:
    """Append to `part` what is missing of it.

    Raises:
        OSError: the connection failed or ended early.
    """
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "dpnet-lite"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE or not have:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # stopped between the last byte and the checksum
        part.unlink()  # longer than the file: of another version
        raise ConnectionError("the part did not fit the file") from None
    with closing(response):
        is_continued = getattr(response, "status", None) == http.client.PARTIAL_CONTENT
        start = have if is_continued else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with part.open("ab" if is_continued else "wb") as file, open_bar(name, total, start) as bar:
            for chunk in _chunks(response):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(f"{part.stat().st_size} of {total} bytes came")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """What has come so far, piece by piece: `read1` hands on a part that `read` would lose with a broken line."""
    while chunk := response.read1(_CHUNK):
        yield chunk
