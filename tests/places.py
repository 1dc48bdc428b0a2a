"""Where things lie, for tests in any folder."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent  # of the repository
SHARED = ROOT.parent / "shared"  # photographs and weights that are not committed; tests that need them are skipped
