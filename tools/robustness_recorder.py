"""A pytest plugin for `write_robustness.py`: notes every error that a test expects, and every line of the command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.raises import RaisesExc

import dpnet_lite.cli.main

current = ""


def note(kind: str, message: str) -> None:
    file = Path(os.environ["DPNET_LITE_RECORD"]) / f"{os.getpid()}.jsonl"
    with file.open("a") as lines:
        lines.write(json.dumps({"node": current, "kind": kind, "message": message}) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    global current
    current = item.nodeid
    return (yield)


def _leave(self: Any, kind: Any, error: Any, trace: Any, plain: Any = RaisesExc.__exit__) -> Any:
    suppressed = plain(self, kind, error, trace)
    if suppressed and isinstance(error, ValueError | OSError | RuntimeError | ImportError) and str(error):
        note(type(error).__name__, str(error))
    return suppressed


def _main(arguments: Any = None, plain: Any = dpnet_lite.cli.main.main) -> int:
    heard = io.StringIO()

    class Both(io.StringIO):
        def write(self, text: str) -> int:
            heard.write(text)
            return sys.__stderr__.write(text) if stream is sys.__stderr__ else stream.write(text)

        def flush(self) -> None:
            stream.flush()

    stream = sys.stderr
    try:
        with contextlib.redirect_stderr(Both()):
            status: int = plain(arguments)
        return status
    finally:
        for line in heard.getvalue().splitlines():
            if line.startswith("dpnet-lite: error: "):
                note("command line", line.removeprefix("dpnet-lite: error: "))


RaisesExc.__exit__ = _leave  # type: ignore[method-assign]
dpnet_lite.cli.main.main = _main  # type: ignore[assignment]
