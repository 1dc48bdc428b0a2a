"""Prototype interaction, against its formulas written as NumPy loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpnet_lite.model.prototype_interaction import PrototypeInteraction, part_prototypes

CHANNELS = 5


def slow_softmax(values):
    exponentials = [np.exp(v - max(values)) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def slow_attention(rows, own, other):
    """Each row of `rows` as softmax weights over the vectors or numbers in `other`, added up; zero-based loops."""
    result = []
    for row in rows:
        weights = slow_softmax(row)
        result.append(sum(w * o for w, o in zip(weights, other, strict=True)))
    assert len(result) == len(own)
    return np.array(result)


def slow_gate(module, p, p_q):
    """sigmoid(W2 relu(W1 [p; p_q; p * p_q] + b1) + b2) with the module's weights."""
    first, second = module.gate[0], module.gate[2]
    x = np.concatenate([p, p_q, p * p_q])
    hidden = np.maximum(first.weight.detach().double().numpy() @ x + first.bias.detach().double().numpy(), 0)
    score = second.weight.detach().double().numpy() @ hidden + second.bias.detach().double().numpy()
    return 1 / (1 + np.exp(-score))


def case(mode="correlation", n_parts=3, g1=0.7, g2=-0.4):
    """A module with learned g1 and g2, and random P, P_q [2, C], F_q [2, C, 3, 4], parts [2, n_parts, C]."""
    torch.manual_seed(0)
    module = PrototypeInteraction(CHANNELS, mode=mode, n_parts=n_parts)
    if mode in ("correlation", "joint", "agreement", "parts"):
        with torch.no_grad():
            module.g1.fill_(g1)
            module.g2.fill_(g2)
    prototypes = torch.randn(2, CHANNELS), torch.randn(2, CHANNELS)
    parts = {"support_parts": torch.randn(2, n_parts, CHANNELS), "query_parts": torch.randn(2, n_parts, CHANNELS)}
    return module, prototypes, torch.randn(2, CHANNELS, 3, 4), parts if mode == "parts" else {}


def test_agreement_equals_its_formulas():
    module, (prototype, pseudo), query, _ = case("agreement")
    with torch.no_grad():
        module.strength.fill_(0.9)
    found = module(prototype, pseudo, query)
    for b in range(2):
        p, p_q = prototype[b].double().numpy(), pseudo[b].double().numpy()
        diagonal = np.array([p[c] * p_q[c] / np.sqrt(CHANNELS) for c in range(CHANNELS)])
        np.testing.assert_allclose(found.correlation[b].diagonal().detach(), diagonal, atol=1e-6)
        weights = 1 + np.tanh(0.9 * (diagonal - diagonal.mean()) / diagonal.std(ddof=1))
        np.testing.assert_allclose(found.weights[b].detach(), weights, atol=1e-4)
        np.testing.assert_allclose(found.prototype[b].detach(), weights * (p + 0.7 * p_q), atol=1e-4)
        np.testing.assert_allclose(found.pseudo_prototype[b].detach(), weights * (p_q - 0.4 * p), atol=1e-4)
        expected = weights[:, None, None] * query[b].double().numpy()
        np.testing.assert_allclose(found.query[b].detach(), expected, atol=1e-3)


def test_agreement_starts_as_no_interaction_and_its_strength_can_learn():
    module = PrototypeInteraction(CHANNELS, mode="agreement")
    prototype, pseudo, query = torch.randn(2, CHANNELS), torch.randn(2, CHANNELS), torch.randn(2, CHANNELS, 3, 4)
    found = module(prototype, pseudo, query)
    for after, before in zip(found[:3], (prototype, pseudo, query), strict=True):
        assert torch.equal(after, before)
    (found.prototype.square().sum() + found.query.square().sum()).backward()
    assert module.strength.grad.abs() > 0


def test_correlation_equals_its_formulas():
    module, (prototype, pseudo), query, _ = case()
    found = module(prototype, pseudo, query)
    for b in range(2):
        p, p_q = prototype[b].double().numpy(), pseudo[b].double().numpy()
        a = [[p[i] * p_q[j] / np.sqrt(CHANNELS) for j in range(CHANNELS)] for i in range(CHANNELS)]
        transposed = [[a[i][j] for i in range(CHANNELS)] for j in range(CHANNELS)]
        new_p = p + 0.7 * slow_attention(a, p, p_q)
        new_p_q = p_q - 0.4 * slow_attention(transposed, p_q, p)
        gate = slow_gate(module, new_p, new_p_q)
        new_query = np.zeros((CHANNELS, 3, 4))
        for c in range(CHANNELS):
            new_query[c] = query[b, c].numpy() * (1 + gate[c])
        np.testing.assert_allclose(found.correlation[b].detach(), a, atol=1e-5)
        np.testing.assert_allclose(found.prototype[b].detach(), new_p, atol=1e-5)
        np.testing.assert_allclose(found.pseudo_prototype[b].detach(), new_p_q, atol=1e-5)
        np.testing.assert_allclose(found.gate[b].detach(), gate, atol=1e-5)
        np.testing.assert_allclose(found.query[b].detach(), new_query, atol=1e-5)


def test_joint_weighs_prototypes_and_query_of_the_correlation_alike():
    module, (prototype, pseudo), query, _ = case("joint")
    found = module(prototype, pseudo, query)
    for b in range(2):
        p, p_q = prototype[b].double().numpy(), pseudo[b].double().numpy()
        a = [[p[i] * p_q[j] / np.sqrt(CHANNELS) for j in range(CHANNELS)] for i in range(CHANNELS)]
        new_p = p + 0.7 * slow_attention(a, p, p_q)
        new_p_q = p_q - 0.4 * slow_attention(np.transpose(a), p_q, p)
        weights = 2 * slow_gate(module, new_p, new_p_q)
        np.testing.assert_allclose(found.correlation[b].detach(), a, atol=1e-5)
        np.testing.assert_allclose(found.weights[b].detach(), weights, atol=1e-5)
        np.testing.assert_allclose(found.prototype[b].detach(), weights * new_p, atol=1e-5)
        np.testing.assert_allclose(found.pseudo_prototype[b].detach(), weights * new_p_q, atol=1e-5)
        expected = weights[:, None, None] * query[b].double().numpy()
        np.testing.assert_allclose(found.query[b].detach(), expected, atol=1e-5)


def test_parts_equal_their_formulas():
    module, (prototype, pseudo), query, parts = case("parts")
    found = module(prototype, pseudo, query, **parts)
    for b in range(2):
        ours, theirs = (parts[name][b].double().numpy() for name in ("support_parts", "query_parts"))
        a = [[x @ y / np.sqrt(CHANNELS) for y in theirs] for x in ours]
        transposed = [list(column) for column in zip(*a, strict=True)]
        new_p = prototype[b].double().numpy() + 0.7 * slow_attention(a, ours, theirs).mean(axis=0)
        new_p_q = pseudo[b].double().numpy() - 0.4 * slow_attention(transposed, theirs, ours).mean(axis=0)
        np.testing.assert_allclose(found.correlation[b].detach(), a, atol=1e-5)
        np.testing.assert_allclose(found.prototype[b].detach(), new_p, atol=1e-5)
        np.testing.assert_allclose(found.pseudo_prototype[b].detach(), new_p_q, atol=1e-5)
        np.testing.assert_allclose(found.gate[b].detach(), slow_gate(module, new_p, new_p_q), atol=1e-5)


def test_gate_alone_keeps_both_prototypes():
    module, (prototype, pseudo), query, _ = case("gate")
    found = module(prototype, pseudo, query)
    assert found.prototype is prototype and found.pseudo_prototype is pseudo and found.correlation is None
    gate = slow_gate(module, prototype[1].double().numpy(), pseudo[1].double().numpy())
    np.testing.assert_allclose(found.gate[1].detach(), gate, atol=1e-5)
    torch.testing.assert_close(found.query, query * (1 + found.gate[:, :, None, None]))


def test_off_changes_nothing_and_has_no_parameters():
    module, (prototype, pseudo), query, _ = case("off")
    found = module(prototype, pseudo, query)
    assert found.prototype is prototype and found.pseudo_prototype is pseudo and found.query is query
    assert found.correlation is None and found.gate is None
    assert not list(module.parameters())


@pytest.mark.parametrize("mode", ["correlation", "parts"])
def test_at_the_start_the_prototypes_are_as_they_were(mode):
    torch.manual_seed(1)
    module = PrototypeInteraction(CHANNELS, mode=mode, n_parts=3)
    _, (prototype, pseudo), query, parts = case(mode)
    found = module(prototype, pseudo, query, **parts)
    assert torch.equal(found.prototype, prototype) and torch.equal(found.pseudo_prototype, pseudo)
    found.prototype.sum().backward()
    assert module.g1.grad != 0  # yet g1 can leave 0


@pytest.mark.parametrize("mode", ["correlation", "joint", "gate", "parts"])
def test_the_gate_lies_between_0_and_1(mode):
    module, (prototype, pseudo), query, parts = case(mode)
    gate = module(5 * prototype, 5 * pseudo, query, **parts).gate
    assert gate.shape == (2, CHANNELS)
    assert bool(((gate > 0) & (gate < 1)).all())
    assert gate.std() > 0.05


def test_one_part_points_along_the_weighted_mean():
    torch.manual_seed(2)
    features, weights = torch.randn(2, 6, 4, 5), torch.rand(2, 4, 5)
    part = part_prototypes(features, weights, 1)
    mean = (features * weights[:, None]).sum(dim=(2, 3)) / weights.sum(dim=(1, 2))[:, None]
    torch.testing.assert_close(part[:, 0], mean, atol=1e-4, rtol=1e-4)


def test_parts_are_made_of_the_masked_pixels_only():
    torch.manual_seed(3)
    features, mask = torch.randn(1, 8, 3, 3), torch.zeros(1, 3, 3)
    mask[0, 0, 0] = mask[0, 1, 2] = mask[0, 2, 2] = 1
    parts = part_prototypes(features, mask, 2)
    elsewhere = torch.where(mask[:, None] > 0, features, 100 * torch.randn_like(features))
    torch.testing.assert_close(part_prototypes(elsewhere, mask, 2), parts)
    pixels = features[0, :, mask[0] > 0]  # [8, 3]
    solution = torch.linalg.lstsq(pixels, parts[0].T).solution
    torch.testing.assert_close(pixels @ solution, parts[0].T, atol=1e-4, rtol=1e-4)
    assert bool((solution > -1e-4).all())
    torch.testing.assert_close(solution.sum(dim=0), torch.ones(2), atol=1e-3, rtol=0)  # a weighted mean


def test_parts_find_the_colours_of_a_flag():
    features = torch.zeros(1, 3, 3, 6)
    for stripe in range(3):
        features[0, stripe, :, 2 * stripe : 2 * stripe + 2] = 1 + stripe
    parts = part_prototypes(features, torch.ones(1, 3, 6), 3)[0]
    found = parts[parts.argmax(dim=1).argsort()]
    torch.testing.assert_close(found, torch.diag(torch.tensor([1.0, 2.0, 3.0])), atol=0.02, rtol=0)


def test_parts_of_an_empty_mask_are_zero():
    assert part_prototypes(torch.randn(1, 4, 2, 2), torch.zeros(1, 2, 2), 3).abs().max() < 1e-6
