"""The small study, run once for all tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest
from ablation_runs import main


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> Path:
    """The folder of the small study, run in this process from end to end."""
    folder = tmp_path_factory.mktemp("reference")
    main(folder, "local", 1)
    return folder
