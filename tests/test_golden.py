"""The numbers of the core have not moved: golden values, kept by `tools/golden.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import compute, load
from places import TESTS


@pytest.fixture(scope="module")
def found():
    return compute()


@pytest.fixture(scope="module")
def kept():
    return load(TESTS / "golden")


def test_frozen_lists_have_their_hashes(found, kept):
    assert found[1]["lists"] == kept[1]["lists"]
    for name, training in kept[1]["training"].items():
        assert found[1]["training"][name]["episodes"] == training["episodes"]


def test_shipped_heads_give_their_logits_and_scores(found, kept):
    for fold in range(4):
        old = kept[0][f"logits{fold}"]
        torch.testing.assert_close(found[0][f"logits{fold}"], old, rtol=0, atol=1e-5 * float(old.abs().max()))
    for name, counts in kept[1]["scores"].items():
        differ = np.abs(np.array(found[1]["scores"][name]) - np.array(counts)).sum()
        assert differ <= 1e-4 * np.sum(counts), name  # another processor may round a pixel on the edge elsewhere


@pytest.mark.parametrize("name", ["default", "photographs"])
def test_twenty_steps_end_with_their_weights(found, kept, name):
    new, old = found[1]["training"][name], kept[1]["training"][name]
    np.testing.assert_allclose(new["losses"], old["losses"], rtol=1e-4)
    assert new["norms"].keys() == old["norms"].keys()
    for key, norm in old["norms"].items():
        assert new["norms"][key] == pytest.approx(norm, rel=1e-3, abs=1e-5), key
    for key, weight in kept[0].items():
        if key.startswith(f"{name}."):
            torch.testing.assert_close(found[0][key], weight, rtol=1e-3, atol=1e-4, msg=key)
