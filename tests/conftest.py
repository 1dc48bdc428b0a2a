"""What several test files need, and how the tests are spread over several workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: one core for a test, and for each process it starts

import pytest
import torch

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`, the tests of a file go to one worker, for what they share; the slow files come first.

    A test that names a group of its own (`pytest.mark.xdist_group`) may go to any worker.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture
def meta_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's device without numbers counts as one of this machine: a second one to be put on."""
    monkeypatch.setattr("dpnet_lite.backbones.devices.devices_here", lambda: ["cpu", "meta"])


@pytest.fixture
def default_interrupt() -> Iterator[None]:
    """Ctrl-C as at a terminal: a shell starts background jobs with SIGINT ignored, and Python then leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
