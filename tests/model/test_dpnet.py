"""The whole network: every switch, shapes, traces, gradients, errors."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from dpnet_lite.model.head import Head, Trace

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.config import (
    Auxiliary,
    Comparison,
    Fusion,
    Interaction,
    ModelConfig,
    Selection,
    SelectionFeatures,
    ShotFusion,
)
from dpnet_lite.model.dpnet import DPNet

SMALL = ModelConfig(channels=8)
IN, DEEP = 10, 6
CELLS, SIZE = (5, 7), (20, 28)


def switched(name, values):
    return [pytest.param(replace(SMALL, **{name: value}), id=f"{name}={value}") for value in values]


SWITCHES = [
    *switched("pseudo_prototype", [True, False]),
    *switched("selection", get_args(Selection)),
    *switched("selection_features", get_args(SelectionFeatures)),
    *switched("weighted_pooling", [True, False]),
    *switched("consensus_rounds", [0, 2]),
    *switched("shot_fusion", get_args(ShotFusion)),
    *switched("interaction", get_args(Interaction)),
    *switched("fusion", get_args(Fusion)),
    *switched("scales", [(1.0,), (1.0, 0.3)]),
    *switched("comparison", get_args(Comparison)),
    *switched("background", [True, False]),
    *switched("prior", [True, False]),
    *switched("score_shortcut", [True, False]),
    *switched("auxiliary", get_args(Auxiliary)),
    *switched("dropout", [0.0, 0.5]),
]


def build(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return Head(config, IN, DEEP)


def inputs(n_shot=1, n_batch=2, seed=0):
    """Support features, masks, query features and the query's truth."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    masks = (random(n_batch, n_shot, *SIZE) > 0.5).float()
    features = random(n_batch, n_shot, IN, *CELLS), masks, random(n_batch, IN, *CELLS)
    return features, (random(n_batch, *SIZE) > 0.5).float()


@pytest.mark.parametrize("config", SWITCHES)
def test_every_switch_runs_both_ways(config):
    head = build(config)
    for n_shot in (1, 2, 7):
        features, truth = inputs(n_shot)
        head.train()
        head.zero_grad()
        output = head(*features, size=SIZE, query_masks=truth)
        assert output.logits.shape == (2, 2, *SIZE)
        loss = output.logits.square().sum()
        if config.auxiliary == "none":
            assert output.auxiliary_logits is None
        else:
            rows = 2 * n_shot if config.auxiliary == "support" else 2
            assert output.auxiliary_logits.shape == (rows, 2, *CELLS)
            loss = loss + output.auxiliary_logits.square().sum()
        loss.backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name
        assert head.reduce[0].weight.grad.abs().sum() > 0
        output = head.eval()(*features, size=SIZE, query_masks=truth)
        assert output.auxiliary_logits is None  # removed outside training
        assert bool(output.logits.isfinite().all())


@pytest.mark.parametrize("config", SWITCHES)
@pytest.mark.parametrize("n_shot", [1, 3])
def test_the_trace_has_its_shapes_and_changes_nothing(config, n_shot):
    head = build(config).eval()
    features, truth = inputs(n_shot)
    plain = head(*features, size=SIZE, query_masks=truth)
    traced = head(*features, size=SIZE, query_masks=truth, trace=True)
    assert plain.trace is None
    assert torch.equal(plain.logits, traced.logits)

    trace, c = traced.trace, config.channels
    n_runs = 0 if not config.pseudo_prototype else 1 if config.shot_fusion == "joint" else n_shot
    n_cells = CELLS[0] * CELLS[1]
    n_levels = {"pyramid": len(config.scales), "single": 1, "aspp": 4}[config.fusion]
    n_support = n_cells * (n_shot if config.shot_fusion == "joint" else 1)
    expected = {
        "support": (2, n_shot, c, *CELLS),
        "query": (2, c, *CELLS),
        "support_masks": (2, n_shot, *CELLS),
        "prototype": (2, c),
        "pseudo_prototype": (2, c),
        "reliable": (2, *CELLS),
        "maps": (2, len(trace.map_names), *CELLS),
        "fused": (2, c, *CELLS),
    }
    assert {name: tuple(getattr(trace, name).shape) for name in expected} == expected
    others = {"matches", "selections", "interaction", "map_names", "levels"}
    assert set(Trace._fields) == set(expected) | others
    assert [tuple(match.forward_match.shape) for match in trace.matches] == [(2, n_support)] * n_runs
    assert [tuple(match.backward_match.shape) for match in trace.matches] == [(2, n_cells)] * n_runs
    assert [tuple(found.weights.shape) for found in trace.selections] == [(2, n_cells)] * n_runs
    assert [tuple(found.fallback.shape) for found in trace.selections] == [(2,)] * n_runs
    assert [tuple(level.shape[:2]) for level in trace.levels] == [(2, c)] * n_levels
    torch.testing.assert_close(trace.reliable.sum(dim=(1, 2)), torch.full((2,), float(config.pseudo_prototype)))

    interaction, n_parts = trace.interaction, config.n_parts
    sides = {"correlation": (2, c, c), "joint": (2, c, c), "agreement": (2, c, c), "parts": (2, n_parts, n_parts)}
    found = None if interaction.correlation is None else tuple(interaction.correlation.shape)
    assert found == sides.get(config.interaction)
    assert (interaction.gate is None) == (config.interaction in ("agreement", "off"))
    assert (interaction.weights is None) == (config.interaction not in ("joint", "agreement"))
    assert interaction.prototype.shape == interaction.pseudo_prototype.shape == (2, c)
    assert interaction.query.shape == (2, c, *CELLS)


def test_prototypes_in_the_trace_are_masked_means():
    head = build().eval()
    features, truth = inputs(2)
    trace = head(*features, size=SIZE, query_masks=truth, trace=True).trace
    for b in range(2):
        per_shot = []
        for k in range(2):
            mask = trace.support_masks[b, k].flatten().double()
            per_shot.append((trace.support[b, k].flatten(1).double() * mask).sum(dim=1) / mask.sum())
        torch.testing.assert_close(trace.prototype[b].double(), sum(per_shot) / 2, atol=1e-5, rtol=1e-4)
        share = trace.reliable[b].flatten().double()
        pseudo = (trace.query[b].flatten(1).double() * share).sum(dim=1)
        torch.testing.assert_close(trace.pseudo_prototype[b].double(), pseudo, atol=1e-5, rtol=1e-4)


def test_the_gradient_of_the_pseudo_prototype_flows_through_the_selected_features():
    (support, masks, query), _ = inputs()
    query.requires_grad_()
    trace = build().eval()(support, masks, query, size=SIZE, trace=True).trace
    trace.pseudo_prototype.sum().backward()
    touched = query.grad.abs().sum(dim=1) > 0
    assert bool(touched.any())
    assert not (touched & (trace.reliable == 0)).any()


def test_gradients_reach_every_parameter_of_the_default_head_and_none_of_the_backbone():
    torch.manual_seed(0)
    network = DPNet(replace(ModelConfig(), channels=16), build_backbone("tiny", "random")).train()
    masks = torch.zeros(2, 1, 32, 32)
    masks[..., 8:24, 8:24] = 1
    output = network(torch.randn(2, 1, 3, 32, 32), masks, torch.randn(2, 3, 32, 32))
    loss = torch.nn.functional.cross_entropy(output.logits, masks[:, 0].long())
    if output.auxiliary_logits is not None:
        loss = loss + output.auxiliary_logits.square().mean()
    loss.backward()
    silent = [name for name, p in network.head.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert all(p.grad is None and not p.requires_grad for p in network.backbone.parameters())
    assert not any(module.training for module in network.backbone.modules())


def test_dropout_acts_in_training_only_and_alike_on_all_shots():
    head = build(replace(SMALL, dropout=0.5))
    features, _ = inputs(3)
    torch.manual_seed(1)
    dropped = head.train()(*features, size=SIZE, trace=True).trace
    plain = head.eval()(*features, size=SIZE, trace=True).trace
    for now, before in ((dropped.support, plain.support), (dropped.query[:, None], plain.query[:, None])):
        kept = now.transpose(1, 2).flatten(2).any(dim=2)  # [B, C]: some pixel of some image is not 0
        alive = before.transpose(1, 2).flatten(2).any(dim=2)
        assert bool((alive & ~kept).any()) and bool((alive & kept).any())
        torch.testing.assert_close(now, 2 * before * kept[:, None, :, None, None])


@pytest.mark.parametrize("config", [SMALL, *(p.values[0] for p in SWITCHES if "interaction" in p.id)])
def test_the_support_only_rival_has_as_many_parameters(config):
    full, rival = (build(replace(config, pseudo_prototype=on)) for on in (True, False))
    shapes = [[(name, p.shape) for name, p in head.named_parameters()] for head in (full, rival)]
    assert shapes[0] == shapes[1]
    features, _ = inputs()
    logits = [head.eval()(*features, size=SIZE).logits for head in (full, rival)]
    assert not torch.allclose(*logits)  # same weights (same seed), yet the switch does something


def test_the_rival_does_not_look_for_query_pixels(monkeypatch):
    monkeypatch.setattr("dpnet_lite.model.head.select_reliable", None)
    features, _ = inputs()
    trace = build(replace(SMALL, pseudo_prototype=False)).eval()(*features, size=SIZE, trace=True).trace
    assert torch.equal(trace.pseudo_prototype, trace.prototype)
    with pytest.raises(TypeError):
        build(replace(SMALL, pseudo_prototype=True)).eval()(*features, size=SIZE)


@pytest.mark.parametrize("config", SWITCHES)
def test_the_order_of_shots_does_not_matter(config):
    head = build(config).eval()
    (support, masks, query), truth = inputs(4)
    order = [2, 0, 3, 1]
    logits = head(support, masks, query, size=SIZE, query_masks=truth).logits
    permuted = head(support[:, order], masks[:, order], query, size=SIZE, query_masks=truth).logits
    torch.testing.assert_close(permuted, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", SWITCHES)
def test_episodes_of_a_batch_do_not_mix(config):
    head = build(config).eval()
    (support, masks, query), truth = inputs(2, n_batch=3)
    together = head(support, masks, query, size=SIZE, query_masks=truth).logits
    for b in range(3):
        row = slice(b, b + 1)
        alone = head(support[row], masks[row], query[row], size=SIZE, query_masks=truth[row]).logits
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


def test_an_empty_support_mask_gives_finite_logits():
    (support, masks, query), _ = inputs(2)
    output = build().eval()(support, torch.zeros_like(masks), query, size=SIZE, trace=True)
    assert bool(output.logits.isfinite().all())
    assert all(bool(found.fallback.all()) for found in output.trace.selections)


WRONG = [
    ((2, IN, 5, 7), (2, 1, 20, 28), (2, IN, 5, 7), r"give \[B, K, D, h, w\]"),
    ((2, 1, IN, 5, 7), (2, 20, 28), (2, IN, 5, 7), r"give \[B, K, D, h, w\]"),
    ((2, 1, IN, 5, 7), (2, 1, 20, 28), (IN, 5, 7), r"give \[B, K, D, h, w\]"),
    ((2, 3, IN, 5, 7), (2, 1, 20, 28), (2, IN, 5, 7), "same B and K"),
    ((2, 0, IN, 5, 7), (2, 0, 20, 28), (2, IN, 5, 7), "K >= 1"),
    ((2, 1, 3, 5, 7), (2, 1, 20, 28), (2, IN, 5, 7), "built for D = 10"),
    ((2, 1, IN, 5, 7), (2, 1, 20, 28), (2, 3, 5, 7), "built for D = 10"),
    ((1, 1, IN, 5, 7), (1, 1, 20, 28), (2, IN, 5, 7), "same B, h and w"),
    ((2, 1, IN, 5, 7), (2, 1, 20, 28), (2, IN, 6, 7), "same B, h and w"),
]


@pytest.mark.parametrize(("support", "masks", "query", "message"), WRONG)
def test_wrong_shapes_are_named_in_one_line(support, masks, query, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()(torch.zeros(support), torch.zeros(masks), torch.zeros(query), size=SIZE)
    assert "\n" not in str(caught.value)
    assert str(list(support)) in str(caught.value) and str(list(query)) in str(caught.value)


def test_the_oracle_asks_for_the_truth_in_its_shape():
    head = build(replace(SMALL, selection="oracle"))
    features, truth = inputs()
    with pytest.raises(ValueError, match="no query_masks were given"):
        head(*features, size=SIZE)
    with pytest.raises(ValueError, match=r"query_masks are \[1, 20, 28\]; give \[B, H, W\] with B = 2"):
        head(*features, size=SIZE, query_masks=truth[:1])


def test_images_in_equal_features_in():
    torch.manual_seed(0)
    backbone = build_backbone("tiny", "random")
    network = DPNet(SMALL, backbone).eval()
    support, query = torch.randn(2, 3, 3, 32, 40), torch.randn(2, 3, 32, 40)
    masks = (torch.rand(2, 3, 32, 40) < 0.4).float()
    output = network(support, masks, query, trace=True)
    assert output.logits.shape == (2, 2, 32, 40)
    per_image = torch.stack([torch.stack([backbone(shot[None])[0] for shot in row]) for row in support])
    expected = network.head(per_image, masks, backbone(query), size=(32, 40)).logits
    torch.testing.assert_close(output.logits, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"float32 \[B, 3, H, W\]"):
        network(support[:, :, :1], masks, query)


def test_the_state_rebuilds_the_head():
    features, _ = inputs()
    first, second = build(seed=0).eval(), build(seed=1).eval()
    logits = first(*features, size=SIZE).logits
    assert not torch.allclose(second(*features, size=SIZE).logits, logits)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(*features, size=SIZE).logits, logits)


@pytest.mark.parametrize("shortcut", [False, True])
def test_what_is_ignored_in_the_support_does_not_matter(shortcut):
    """Neither foreground nor background: its features may be anything."""
    head = build(replace(SMALL, pseudo_prototype=False, score_shortcut=shortcut)).eval()
    (support, masks, query), _ = inputs()
    masks[..., :12] = 0
    background = 1 - masks
    background[..., :12] = 0
    other = support.clone()
    other[..., :3] = 7.0  # the same three of seven columns of cells
    known, changed = (
        head(s, masks, query, size=(9, 9), support_background=background).logits for s in (support, other)
    )
    assert torch.equal(known, changed)
    assert not torch.equal(known, head(other, masks, query, size=(9, 9)).logits)


def test_the_support_branch_compares_in_the_channels_of_the_prototype():
    head = build(replace(SMALL, interaction="joint", auxiliary="support", dropout=0.0)).train()
    (support, masks, query), _ = inputs(n_shot=2)
    output = head(support, masks, query, size=SIZE, trace=True)
    after, features = output.trace.interaction, output.trace.support
    for b in range(2):
        for k in range(2):
            pixel = (after.weights[b] * features[b, k, :, 3, 4]).detach().double().numpy()
            prototype = after.pseudo_prototype[b].detach().double().numpy()
            cosine = pixel @ prototype / (np.linalg.norm(pixel) * np.linalg.norm(prototype))
            z = float(head.auxiliary.scale.detach()) * (cosine - float(head.auxiliary.threshold.detach()))
            found = output.auxiliary_logits[2 * b + k, :, 3, 4].detach().numpy()
            np.testing.assert_allclose(found, [-z, z], atol=1e-4)
