"""Prototype interaction, against its formulas written as NumPy loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from core_fixtures import numpy64, slow_softmax

from dpnet_lite.model.prototype_interaction import PrototypeInteraction

CHANNELS, G1, G2 = 5, 0.7, -0.4


def slow_gate(module, p, p_q):
    """sigmoid(W2 relu(W1 [p; p_q; p * p_q] + b1) + b2) with the module's weights."""
    first, second = module.gate[0], module.gate[2]
    x = np.concatenate([p, p_q, p * p_q])
    hidden = np.maximum(numpy64(first.weight) @ x + numpy64(first.bias), 0)
    return 1 / (1 + np.exp(-(numpy64(second.weight) @ hidden + numpy64(second.bias))))


def slow_attention(rows, other):
    """Each row of `rows` as softmax weights over the numbers in `other`, added up."""
    return np.array([sum(w * o for w, o in zip(slow_softmax(np.array(row)), other, strict=True)) for row in rows])


def case(mode, *, learned=True):
    """A module, with learned g1 and g2 if asked for, and random P, P_q [2, C], F_q [2, C, 3, 4]."""
    torch.manual_seed(0)
    module = PrototypeInteraction(CHANNELS, mode=mode)
    if learned and mode != "off":
        with torch.no_grad():
            module.g1.fill_(G1)
            module.g2.fill_(G2)
    return module, torch.randn(2, CHANNELS), torch.randn(2, CHANNELS), torch.randn(2, CHANNELS, 3, 4)


@pytest.mark.parametrize("mode", ["joint", "correlation"])
def test_each_mode_equals_its_formulas(mode):
    module, prototype, pseudo, query = case(mode)
    found = module(prototype, pseudo, query)
    for b in range(2):
        p, p_q = numpy64(prototype[b]), numpy64(pseudo[b])
        a = [[p[i] * p_q[j] / np.sqrt(CHANNELS) for j in range(CHANNELS)] for i in range(CHANNELS)]
        transposed = [[a[i][j] for i in range(CHANNELS)] for j in range(CHANNELS)]
        new_p, new_p_q = p + G1 * slow_attention(a, p_q), p_q + G2 * slow_attention(transposed, p)
        gate = slow_gate(module, new_p, new_p_q)
        if mode == "joint":
            np.testing.assert_allclose(found.weights[b].detach(), 2 * gate, atol=1e-5)
            new_p, new_p_q, factor = 2 * gate * new_p, 2 * gate * new_p_q, 2 * gate
        else:
            assert found.weights is None
            factor = 1 + gate
        expected = {"correlation": a, "gate": gate, "prototype": new_p, "pseudo_prototype": new_p_q}
        expected["query"] = factor[:, None, None] * numpy64(query[b])
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(found, name)[b].detach(), value, atol=1e-5, err_msg=name)


def test_off_changes_nothing_and_has_no_parameters():
    module, prototype, pseudo, query = case("off")
    found = module(prototype, pseudo, query)
    assert found.prototype is prototype and found.pseudo_prototype is pseudo and found.query is query
    assert found.correlation is None and found.gate is None and found.weights is None
    assert not list(module.parameters())


def test_at_the_start_the_prototypes_are_as_they_were_yet_can_learn():
    module, prototype, pseudo, query = case("correlation", learned=False)
    found = module(prototype, pseudo, query)
    assert torch.equal(found.prototype, prototype) and torch.equal(found.pseudo_prototype, pseudo)
    (found.prototype.sum() + found.pseudo_prototype.sum()).backward()
    assert module.g1.grad != 0 and module.g2.grad != 0


@pytest.mark.parametrize("mode", ["correlation", "joint"])
def test_the_gate_lies_between_0_and_1(mode):
    module, prototype, pseudo, query = case(mode)
    gate = module(5 * prototype, 5 * pseudo, query).gate
    assert gate.shape == (2, CHANNELS)
    assert bool(((gate > 0) & (gate < 1)).all())
    assert gate.std() > 0.05
