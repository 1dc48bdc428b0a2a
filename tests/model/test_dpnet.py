"""The whole network: every switch, shapes, traces, gradients, errors."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from core_fixtures import numpy64, random_batch

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.dpnet import DPNet, Trace
from dpnet_lite.model.episode_batch import EpisodeBatch

SMALL = ModelConfig(channels=8)
IN, DEEP = 10, 6
CELLS, SIZE = (5, 7), (20, 28)
OTHER_VALUES = {"consensus_rounds": 0, "scales": (1.0, 0.3), "dropout": 0.5}  # of what is neither choice nor switch


def switches() -> list[object]:
    """Every switch and choice of ModelConfig the other way round, one at a time."""
    hints = get_type_hints(ModelConfig)
    cases = [pytest.param(SMALL, id="default")]
    for item in fields(ModelConfig):
        default, kind = getattr(SMALL, item.name), hints[item.name]
        values = [not default] if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()
        values = [value for value in values if value != default]
        for value in values or [OTHER_VALUES[name] for name in (item.name,) if name in OTHER_VALUES]:
            more = {"fusion": "pyramid"} if item.name == "scales" else {}
            config = replace(SMALL, **more, **{item.name: value})
            cases.append(pytest.param(config, id=f"{item.name}={value}"))
    return cases


SWITCHES = switches()


def build(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return DPNet(config, IN, DEEP)


def inputs(n_shot=1, n_batch=2, seed=0) -> EpisodeBatch:
    return random_batch(n_shot, n_batch, channels=IN, cells=CELLS, seed=seed)


def rows(batch: EpisodeBatch, chosen: slice) -> EpisodeBatch:
    return EpisodeBatch(*(part[chosen] for part in batch))


def test_every_choice_is_tried():
    assert len(SWITCHES) == 22
    assert {"selection=oracle", "interaction=off", "fusion=single", "auxiliary=none"} <= {case.id for case in SWITCHES}


@pytest.mark.parametrize("config", SWITCHES)
def test_every_switch_runs_both_ways(config):
    head = build(config)
    for n_shot in (1, 5):
        batch = inputs(n_shot)
        head.train()
        head.zero_grad()
        output = head(batch, SIZE)
        assert output.logits.shape == (2, 2, *SIZE)
        loss = output.logits.square().sum()
        if config.auxiliary == "none":
            assert output.auxiliary_logits is None
        else:
            n_rows = 2 * n_shot if config.auxiliary == "support" else 2
            assert output.auxiliary_logits.shape == (n_rows, 2, *CELLS)
            loss = loss + output.auxiliary_logits.square().sum()
        loss.backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name
        assert head.reduce[0].weight.grad.abs().sum() > 0
        output = head.eval()(batch, SIZE)
        assert output.auxiliary_logits is None  # removed outside training
        assert bool(output.logits.isfinite().all())


@pytest.mark.parametrize("config", SWITCHES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_in_another_precision_stays_in_it(config, dtype):
    """Without autocast; the selection is made in float32 all the same."""
    output = build(config).eval().to(dtype)(inputs(1).to("cpu", dtype), SIZE)
    assert output.logits.dtype == dtype and bool(output.logits.isfinite().all())


@pytest.mark.parametrize("config", SWITCHES)
@pytest.mark.parametrize("n_shot", [1, 3])
def test_the_trace_has_its_shapes_and_changes_nothing(config, n_shot):
    head = build(config).eval()
    batch = inputs(n_shot)
    plain, traced = head(batch, SIZE), head(batch, SIZE, trace=True)
    assert plain.trace is None
    assert torch.equal(plain.logits, traced.logits)

    trace, c = traced.trace, config.channels
    n_runs, n_cells = n_shot if config.pseudo_prototype else 0, CELLS[0] * CELLS[1]
    n_levels = {"pyramid": len(config.scales), "single": 1, "aspp": 4}[config.fusion]
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
    assert set(Trace._fields) == set(expected) | {"matches", "selections", "interaction", "map_names", "levels"}
    for side in ("forward_match", "backward_match"):
        assert [tuple(getattr(match, side).shape) for match in trace.matches] == [(2, n_cells)] * n_runs
    assert [tuple(found.weights.shape) for found in trace.selections] == [(2, n_cells)] * n_runs
    assert [tuple(found.fallback.shape) for found in trace.selections] == [(2,)] * n_runs
    assert [tuple(level.shape[:2]) for level in trace.levels] == [(2, c)] * n_levels
    torch.testing.assert_close(trace.reliable.sum(dim=(1, 2)), torch.full((2,), float(config.pseudo_prototype)))

    found = trace.interaction
    assert (found.correlation is None) == (found.gate is None) == (config.interaction == "off")
    assert (found.weights is None) == (config.interaction != "joint")
    assert found.correlation is None or found.correlation.shape == (2, c, c)
    assert found.prototype.shape == found.pseudo_prototype.shape == (2, c)
    assert found.query.shape == (2, c, *CELLS)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"comparison": "features"}, ()),
        ({"comparison": "features", "prior": True}, ("prior",)),
        ({"background": False}, ("P'", "P_q'", "middle P", "middle P_q", "deep P", "deep P_q")),
        ({}, ("P'", "P_q'", "P' - background", "P_q' - background", "middle P", "middle P_q", "middle P - background")),
    ],
)
def test_the_maps_have_their_names(changes, names):
    found = build(replace(SMALL, **changes)).map_names()
    assert found[: len(names)] == names and len(found) == (12 if not changes else len(names))


def test_maps_are_cosines_less_their_mean_and_less_the_background():
    batch = inputs()
    trace = build().eval()(batch, SIZE, trace=True).trace
    maps = dict(zip(trace.map_names, trace.maps.unbind(dim=1), strict=True))
    query, support, masks = (numpy64(part) for part in (batch.query_features, batch.support_features, trace.reliable))

    def cosine(b: int, prototype: np.ndarray) -> np.ndarray:
        pixels = query[b, -DEEP:]
        return np.einsum("chw,c->hw", pixels, prototype) / np.linalg.norm(pixels, axis=0) / np.linalg.norm(prototype)

    for b in range(2):
        inside = numpy64(batch.support_masks[b, 0])
        p, rest = ((support[b, 0, -DEEP:] * w).sum(axis=(1, 2)) / w.sum() for w in (inside, 1 - inside))
        pseudo = (query[b, -DEEP:] * masks[b]).sum(axis=(1, 2))
        for name, prototype in (("deep P", p), ("deep P_q", pseudo)):
            found, background = cosine(b, prototype), cosine(b, rest)
            np.testing.assert_allclose(maps[name][b].detach(), 10 * (found - found.mean()), atol=1e-4)
            np.testing.assert_allclose(maps[f"{name} - background"][b].detach(), 10 * (found - background), atol=1e-4)


def test_prototypes_in_the_trace_are_masked_means():
    trace = build().eval()(inputs(2), SIZE, trace=True).trace
    for b in range(2):
        per_shot = []
        for k in range(2):
            mask = trace.support_masks[b, k].flatten().double()
            per_shot.append((trace.support[b, k].flatten(1).double() * mask).sum(dim=1) / mask.sum())
        torch.testing.assert_close(trace.prototype[b].double(), sum(per_shot) / 2, atol=1e-5, rtol=1e-4)
        share = trace.reliable[b].flatten().double()
        pseudo = (trace.query[b].flatten(1).double() * share).sum(dim=1)
        torch.testing.assert_close(trace.pseudo_prototype[b].double(), pseudo, atol=1e-5, rtol=1e-4)


def test_several_shots_are_the_mean_of_single_ones():
    head, batch = build(replace(SMALL, consensus_rounds=0, weighted_pooling=False)).eval(), inputs(3)
    together = head(batch, SIZE, trace=True).trace
    shots = [EpisodeBatch(*(part[:, k : k + 1] for part in batch[:3]), *batch[3:]) for k in range(3)]
    single = [head(shot, SIZE, trace=True).trace for shot in shots]
    for name in ("pseudo_prototype", "reliable", "prototype"):
        mean = sum(getattr(trace, name) for trace in single) / 3
        torch.testing.assert_close(getattr(together, name), mean, atol=1e-5, rtol=1e-4)


def test_the_gradient_of_the_pseudo_prototype_flows_through_the_selected_features():
    batch = inputs()
    query = batch.query_features.requires_grad_()
    trace = build().eval()(batch, SIZE, trace=True).trace
    trace.pseudo_prototype.sum().backward()
    touched = query.grad.abs().sum(dim=1) > 0
    assert bool(touched.any())
    assert not (touched & (trace.reliable == 0)).any()


def test_gradients_reach_every_parameter_of_the_default_network():
    head, batch = build(ModelConfig(channels=16)).train(), inputs()
    output = head(batch, SIZE)
    loss = torch.nn.functional.cross_entropy(output.logits, batch.query_labels)
    (loss + output.auxiliary_logits.square().mean()).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_acts_in_training_only_and_alike_on_all_shots():
    head, batch = build(replace(SMALL, dropout=0.5)), inputs(3)
    torch.manual_seed(1)
    dropped = head.train()(batch, SIZE, trace=True).trace
    plain = head.eval()(batch, SIZE, trace=True).trace
    for now, before in ((dropped.support, plain.support), (dropped.query[:, None], plain.query[:, None])):
        kept = now.transpose(1, 2).flatten(2).any(dim=2)  # [B, C]: some pixel of some image is not 0
        alive = before.transpose(1, 2).flatten(2).any(dim=2)
        assert bool((alive & ~kept).any()) and bool((alive & kept).any())
        torch.testing.assert_close(now, 2 * before * kept[:, None, :, None, None])


def test_an_episode_loses_the_channels_that_it_is_given():
    head, batch = build(replace(SMALL, dropout=0.5)).train(), inputs(2, n_batch=4)
    torch.manual_seed(9)
    kept = head.reduce.draw_kept(4)
    assert not torch.equal(kept, kept.roll(1, 0))  # episodes differ
    whole = head(batch, SIZE, kept_channels=kept, trace=True).trace
    part = head(rows(batch, slice(1, 3)), SIZE, kept_channels=kept[1:3], trace=True).trace
    for name in ("support", "query"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name)[1:3])


@pytest.mark.parametrize("interaction", ["joint", "correlation", "off"])
def test_the_support_only_rival_has_as_many_parameters(interaction):
    full, rival = (build(replace(SMALL, interaction=interaction, pseudo_prototype=on)) for on in (True, False))
    shapes = [[(name, p.shape) for name, p in head.named_parameters()] for head in (full, rival)]
    assert shapes[0] == shapes[1]
    logits = [head.eval()(inputs(), SIZE).logits for head in (full, rival)]
    assert not torch.allclose(*logits)  # same weights (same seed), yet the switch does something


def test_the_rival_does_not_look_for_query_pixels(monkeypatch):
    monkeypatch.setattr("dpnet_lite.model.dpnet.select_reliable", None)
    trace = build(replace(SMALL, pseudo_prototype=False)).eval()(inputs(), SIZE, trace=True).trace
    assert torch.equal(trace.pseudo_prototype, trace.prototype)
    with pytest.raises(TypeError):
        build().eval()(inputs(), SIZE)


@pytest.mark.parametrize("config", SWITCHES)
def test_neither_the_order_of_shots_nor_the_other_episodes_matter(config):
    head, batch = build(config).eval(), inputs(4, n_batch=3)
    logits = head(batch, SIZE).logits
    order = [2, 0, 3, 1]
    permuted = EpisodeBatch(*(part[:, order] for part in batch[:3]), *batch[3:])
    torch.testing.assert_close(head(permuted, SIZE).logits, logits, atol=1e-4, rtol=1e-4)
    for b in range(3):
        alone = head(rows(batch, slice(b, b + 1)), SIZE).logits
        torch.testing.assert_close(logits[b : b + 1], alone, atol=1e-4, rtol=1e-4)


def test_an_empty_support_mask_gives_finite_logits():
    batch = inputs(2)
    batch = batch._replace(support_masks=torch.zeros_like(batch.support_masks))
    output = build().eval()(batch, SIZE, trace=True)
    assert bool(output.logits.isfinite().all())
    assert all(bool(found.fallback.all()) for found in output.trace.selections)


@pytest.mark.parametrize(
    ("support", "masks", "query", "message"),
    [
        ((2, IN, 5, 7), (2, 1, 5, 7), (2, IN, 5, 7), r"give \[B, K, D, h, w\]"),
        ((2, 1, IN, 5, 7), (2, 5, 7), (2, IN, 5, 7), r"give \[B, K, D, h, w\]"),
        ((2, 1, IN, 5, 7), (2, 1, 5, 7), (IN, 5, 7), r"give \[B, K, D, h, w\]"),
        ((2, 3, IN, 5, 7), (2, 1, 5, 7), (2, IN, 5, 7), "same B and K"),
        ((2, 0, IN, 5, 7), (2, 0, 5, 7), (2, IN, 5, 7), "K >= 1"),
        ((2, 1, 3, 5, 7), (2, 1, 5, 7), (2, IN, 5, 7), "built for D = 10"),
        ((2, 1, IN, 5, 7), (2, 1, 5, 7), (2, 3, 5, 7), "built for D = 10"),
        ((1, 1, IN, 5, 7), (1, 1, 5, 7), (2, IN, 5, 7), "same B, h and w"),
        ((2, 1, IN, 5, 7), (2, 1, 5, 7), (2, IN, 6, 7), "same B, h and w"),
        ((2, 1, IN, 5, 7), (2, 1, 20, 28), (2, IN, 5, 7), "same B, h and w"),
    ],
)
def test_wrong_shapes_are_named_in_one_line(support, masks, query, message):
    labels = torch.zeros(2, 20, 28, dtype=torch.int64)
    batch = EpisodeBatch(*(torch.zeros(shape) for shape in (support, masks, masks, query)), labels)
    with pytest.raises(ValueError, match=message) as caught:
        build()(batch, SIZE)
    assert "\n" not in str(caught.value)
    assert all(str(list(shape)) in str(caught.value) for shape in (support, masks, query))


@pytest.mark.parametrize("part", ["query_labels", "support_background"])
def test_parts_of_another_number_are_refused(part):
    batch = inputs()
    with pytest.raises(ValueError, match="same B, h and w"):
        build()(batch._replace(**{part: getattr(batch, part)[:1]}), SIZE)


def test_the_oracle_takes_the_querys_true_mask_or_what_it_is_given():
    head, batch = build(replace(SMALL, selection="oracle")).eval(), inputs()
    truth = batch.query_labels == 1
    ignored = batch._replace(query_labels=torch.where(truth, 1, 255))  # 255 is not foreground
    shares = [head(b, SIZE, trace=True).trace.reliable for b in (batch, ignored)]
    given = head(ignored, SIZE, query_masks=1 - truth.float(), trace=True).trace.reliable
    expected = truth.double().reshape(2, 5, 4, 7, 4).mean(dim=(2, 4))
    for found in shares:
        torch.testing.assert_close(found.double(), expected / expected.sum(dim=(1, 2), keepdim=True), rtol=1e-4, atol=0)
    unknown = batch._replace(query_labels=torch.full_like(batch.query_labels, 255))
    with pytest.raises(ValueError, match="selection is 'oracle', but no query_masks were given"):
        head(unknown, SIZE)
    with pytest.raises(ValueError, match=r"^query_masks are 1 for 2 queries; give one each$"):
        head(unknown, SIZE, query_masks=truth[:1])
    other = 1 - expected
    torch.testing.assert_close(given.double(), other / other.sum(dim=(1, 2), keepdim=True), rtol=1e-4, atol=0)


def test_the_state_rebuilds_the_network():
    batch = inputs()
    first, second = build(seed=0).eval(), build(seed=1).eval()
    logits = first(batch, SIZE).logits
    assert not torch.allclose(second(batch, SIZE).logits, logits)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(batch, SIZE).logits, logits)


@pytest.mark.parametrize("shortcut", [False, True])
def test_what_is_ignored_in_the_support_does_not_matter(shortcut):
    """Neither foreground nor background: its features may be anything."""
    head, batch = build(replace(SMALL, pseudo_prototype=False, score_shortcut=shortcut)).eval(), inputs()
    masks, background = batch.support_masks.clone(), batch.support_background.clone()
    masks[..., :3], background[..., :3] = 0, 0
    known = batch._replace(support_masks=masks, support_background=background)
    other = known.support_features.clone()
    other[..., :3] = 7.0  # the same three of seven columns of cells
    changed = known._replace(support_features=other)
    assert torch.equal(head(known, (9, 9)).logits, head(changed, (9, 9)).logits)
    background[..., :3] = 1
    assert not torch.equal(head(known, (9, 9)).logits, head(changed, (9, 9)).logits)


def test_the_support_branch_compares_in_the_channels_of_the_prototype():
    head = build(replace(SMALL, auxiliary="support", dropout=0.0)).train()
    output = head(inputs(n_shot=2), SIZE, trace=True)
    after, features = output.trace.interaction, output.trace.support
    for b in range(2):
        for k in range(2):
            pixel = numpy64(after.weights[b] * features[b, k, :, 3, 4])
            prototype = numpy64(after.pseudo_prototype[b])
            cosine = pixel @ prototype / (np.linalg.norm(pixel) * np.linalg.norm(prototype))
            z = float(head.auxiliary.scale.detach()) * (cosine - float(head.auxiliary.threshold.detach()))
            found = output.auxiliary_logits[2 * b + k, :, 3, 4].detach().numpy()
            np.testing.assert_allclose(found, [-z, z], atol=1e-4)


@pytest.mark.parametrize("config", SWITCHES)
def test_a_support_known_before_changes_nothing(config):
    head = build(config).eval()
    batch = inputs(n_shot=3)
    with torch.no_grad():
        support = head.encode_support(batch)
        for seed in (1, 2):  # many queries, one support
            queries = inputs(n_shot=3, seed=seed)
            shown = batch._replace(query_features=queries.query_features, query_labels=queries.query_labels)
            torch.testing.assert_close(head(shown, SIZE, support=support).logits, head(shown, SIZE).logits)


def test_a_support_known_before_is_refused_where_it_cannot_be_right():
    head, batch = build().eval(), inputs(n_shot=3)
    support = head.encode_support(batch)
    for other in (inputs(n_shot=1), inputs(n_shot=3, n_batch=1)):
        with pytest.raises(ValueError, match="what encode_support gave for this batch's support"):
            head(other, SIZE, support=support)
    with pytest.raises(ValueError, match="support is for eval mode"):
        head.train()(batch, SIZE, support=support)
