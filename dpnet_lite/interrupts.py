"""Ctrl-C and requests to end (SIGTERM) at the right moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block: a step broken off halfway cannot be resumed bit for bit."""
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield
        return
    held: list[tuple[int, Any]] = []
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, lambda *arguments: held.append(arguments)) for number in heeded}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default if handler is None else handler)
    for received, frame in held[:1]:
        handler = handlers[signal.Signals(received)]
        if callable(handler):
            handler(received, frame)
        elif handler is signal.SIG_DFL:
            signal.raise_signal(received)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Inside the block SIGTERM raises KeyboardInterrupt, so that what saves at Ctrl-C also saves when told to end.

    Whoever has a handler of their own, or ignores the signal, keeps that.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def ignore_requests_to_end() -> None:
    """From here on SIGTERM has no effect: for a process that is about to end and must finish saving first."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
