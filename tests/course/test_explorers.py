"""The explorers: the cycle against a plain search, and every control driven through several values without an error."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from PIL import Image

pytest.importorskip("ipyevents", reason="ipyevents is not installed (extra: notebooks)")

import ipywidgets

from dpnet_lite.checkpoints import load_trained
from dpnet_lite.config import ModelConfig
from dpnet_lite.course.explorers import apps
from dpnet_lite.course.explorers.ablation import SWITCHES
from dpnet_lite.course.explorers.apps import (
    RULES,
    _open,
    _setting,
    cycle_explorer,
    episode_explorer,
    gallery_explorer,
    interaction_explorer,
    live_ablation,
    scale_explorer,
)
from dpnet_lite.course.explorers.cycle import (
    cycle_figure,
    cycles_figure,
    first_inside,
    follow_back,
    follow_cycle,
    similarity_figure,
)
from dpnet_lite.course.explorers.episode import (
    VARIANTS,
    answer_figure,
    cases_figure,
    episode_figure,
    object_episodes,
    open_variants,
    pick_episode,
    precision_of,
    tiles_figure,
    toy_episodes,
)
from dpnet_lite.course.explorers.interaction import interaction_figure, similarity_maps
from dpnet_lite.course.explorers.outcomes import why
from dpnet_lite.course.explorers.panels import png
from dpnet_lite.course.explorers.scales import without_scale
from dpnet_lite.course.explorers.shell import Explorer, panel_at
from dpnet_lite.course.opened_episode import selection_quality
from dpnet_lite.datasets import OBJECTS_CREDIT, OBJECTS_FOLDER
from dpnet_lite.experiments.plots import GREEN, ORANGE, overlay
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.predictor import Predictor
from dpnet_lite.scoring import head_segmenter, score_episodes


def picture(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


@pytest.mark.parametrize("shot", [0, 1])
def test_a_cycle_is_that_of_a_plain_search(opened, shot):
    support = torch.nn.functional.normalize(opened.trace.support[0, shot].double(), dim=0)
    query = torch.nn.functional.normalize(opened.trace.query[0].double(), dim=0)
    shares = opened.trace.support_masks[0, shot]
    assert shares[first_inside(opened, shot)] >= 0.5
    for start in [first_inside(opened, shot), (0, 0), (23, 5)]:
        forward = torch.einsum("c,chw->hw", support[:, start[0], start[1]], query)
        match = divmod(int(forward.argmax()), 24)
        back = torch.einsum("c,chw->hw", query[:, match[0], match[1]], support)
        landing = divmod(int(back.argmax()), 24)
        cycle = follow_cycle(opened, start, shot)
        assert (cycle.match, cycle.landing) == (match, landing)
        assert cycle.starts_inside == bool(shares[start] >= 0.5) and cycle.lands_inside == bool(shares[landing] >= 0.5)
        assert cycle.accepted == (cycle.starts_inside and cycle.lands_inside)
        assert ("kept" in cycle.verdict) == cycle.accepted
    with pytest.raises(ValueError, match=r"cell \(24, 0\) is outside the grid of 24 x 24"):
        follow_cycle(opened, (24, 0), shot)


def test_a_start_outside_the_mask_is_never_kept(opened):
    cycles = [follow_cycle(opened, divmod(cell, 24)) for cell in range(24 * 24)]
    strays = [cycle for cycle in cycles if cycle.lands_inside and not cycle.starts_inside]
    assert strays  # this picture has some
    assert not any(cycle.accepted for cycle in strays) and all("not counted" in cycle.verdict for cycle in strays)


def test_pictures_follow_what_they_show(opened):
    start = first_inside(opened)
    drawn = [
        png(figure)
        for figure in (episode_figure(opened), cycle_figure(opened, start), similarity_figure(opened, start))
    ]
    assert len(set(drawn)) == 3 and all(picture(data).std() > 10 for data in drawn)
    assert png(cycle_figure(opened, start)) == drawn[1]  # a pure function
    assert png(cycle_figure(opened, (0, 0))) != drawn[1]


def test_maps_before_and_after_are_plain_cosines(opened):
    trace = opened.trace
    maps = list(similarity_maps(opened).values())
    gated = trace.query[0] * 2 * trace.interaction.gate[0][:, None, None]
    for values, query, prototype in (
        (maps[0], trace.query[0], trace.prototype[0]),
        (maps[1], gated, trace.interaction.prototype[0]),
        (maps[2], trace.query[0], trace.pseudo_prototype[0]),
        (maps[3], gated, trace.interaction.pseudo_prototype[0]),
    ):
        wanted = torch.nn.functional.cosine_similarity(query, prototype[:, None, None], dim=0)
        assert np.allclose(values, wanted.numpy(), atol=1e-5)


def test_the_drawn_attention_is_a_row_of_the_softmax(opened):
    P, P_q = opened.trace.prototype[0].numpy(), opened.trace.pseudo_prototype[0].numpy()
    order = np.argsort(-P, kind="stable")
    row = P[order[3]] * P_q / np.sqrt(len(P))
    weights = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
    lines = {axes.get_title(): axes.lines for axes in interaction_figure(opened, 3).axes}
    assert np.allclose(
        np.sort(lines["$C$ x attention of channel 3"][1].get_ydata()), len(P) * np.sort(weights), atol=1e-4
    )
    drawn = lines["weight $u$ by channel"][1].get_ydata()
    strong = P[order] > 0  # channels at 0 have no order among themselves
    assert np.allclose(drawn[strong], opened.trace.interaction.weights[0].numpy()[order][strong], atol=1e-6)


def test_the_drawn_changes_are_after_minus_before(opened):
    before, after, before_q, after_q = similarity_maps(opened).values()
    drawn = [axes.images[0].get_array() for axes in interaction_figure(opened).axes if "minus" in axes.get_title()]
    assert np.allclose(drawn[0], after - before) and np.allclose(drawn[1], after_q - before_q)


def test_wrong_channels_and_other_interactions_are_refused(opened):
    with pytest.raises(ValueError, match="channel is 64; choose 0 to 63"):
        interaction_figure(opened, 64)
    bare = replace(opened, trace=opened.trace._replace(interaction=opened.trace.interaction._replace(correlation=None)))
    with pytest.raises(ValueError, match="no C x C correlation; use interaction='joint'"):
        interaction_figure(bare)


def small_head(fusion):
    """A head with random weights, and what it gives for an episode of 9 x 9 cells, with its trace."""
    torch.manual_seed(0)
    head = DPNet(ModelConfig(channels=8, fusion=fusion), 12, 6).eval()
    mask = torch.rand(1, 1, 9, 9).round()
    labels = torch.zeros(1, 9, 9, dtype=torch.int64)
    batch = EpisodeBatch(torch.rand(1, 1, 12, 9, 9), mask, 1 - mask, torch.rand(1, 12, 9, 9), labels)

    @torch.no_grad()
    def traced():
        return head(batch, (9, 9), trace=True).trace

    return head, traced


def flattened(x):
    return x.mean(dim=(2, 3), keepdim=True).expand_as(x)


@torch.no_grad()
@pytest.mark.parametrize("level", [0, 2, 3])
@pytest.mark.parametrize("fusion", ["pyramid", "aspp"])
def test_a_flattened_scale_is_as_if_its_output_were_its_mean(fusion, level):
    """Against the fusion written out: the pyramid from coarse to fine, or all branches; a single cell becomes 0."""
    head, traced = small_head(fusion)
    trace = traced()
    after = trace.interaction
    prototypes = torch.cat([after.prototype, after.pseudo_prototype], dim=1)
    if fusion == "pyramid":
        coarser, outputs = None, []
        for number in (3, 2, 1, 0):
            size = trace.levels[number].shape[-2:]
            pooled, maps = (torch.nn.functional.adaptive_avg_pool2d(x, size) for x in (after.query, trace.maps))
            coarser = head.fusion.levels[number](pooled, prototypes, maps, coarser)
            if number == level:
                coarser = 0 * coarser if size == (1, 1) else flattened(coarser)
            outputs.insert(0, coarser)
        wide = [torch.nn.functional.interpolate(x, (9, 9), mode="bilinear", align_corners=False) for x in outputs]
        wanted = head.fusion.merge(torch.cat(wide, dim=1))
    else:
        mixed = head.fusion.levels[0](after.query, prototypes, trace.maps, None)
        seen = [z.expand_as(mixed) for z in trace.levels]
        seen[level] = torch.zeros_like(mixed) if level == 3 else flattened(seen[level])
        wanted = head.fusion.merge(mixed + head.fusion.atrous.merge(torch.relu(torch.cat(seen, dim=1))))
    with without_scale(head, level):
        silenced = traced().fused
    torch.testing.assert_close(silenced, wanted)
    assert not torch.allclose(silenced, trace.fused, atol=1e-3)
    assert torch.equal(traced().fused, trace.fused)  # the head is as before


def test_a_missing_level_is_refused(toy):
    with pytest.raises(ValueError, match="level is 4; choose 0 to 3"), without_scale(toy.head, 4):
        pass


def test_an_episode_of_the_wanted_class_is_picked(toy):
    for position in (0, 7, 19):
        one, *more = (pick_episode(toy, position, n_shot=n_shot) for n_shot in (1, 2, 3, 4))
        assert one.class_index == toy.novel[position]
        for n_shot, episode in enumerate(more, start=2):  # the same task, with a shot more
            assert (episode.query, episode.support[:-1]) == (
                one.query,
                pick_episode(toy, position, n_shot=n_shot - 1).support,
            )
            assert len({episode.query, *episode.support}) == n_shot + 1
    with pytest.raises(ValueError, match="class 20 is none of the fold's 20 novel classes"):
        pick_episode(toy, 20)


VALUES = {
    "photographs": [True, False],
    "fold": [1, 0],
    "position": [19],
    "gap": [1.0, 0.5],
    "seed": [7],
    "n_shot": [4],
    "rule": list(RULES),
    "channel": [63, 0],
    "level": [3, 0],
    "row": [0, 23],
    "column": [0, 23],
    "page": [5],
    "best_first": [False],
    "judge": ["cycle, weighted, consensus (default)"],
    "from_query": [True],
}


EXPLORERS = [episode_explorer, cycle_explorer, gallery_explorer, interaction_explorer, scale_explorer]


def ablation_masks():
    """The explorer within the lab: its controls are the episode's, and the switches."""
    return live_ablation().explorer


@pytest.mark.parametrize("explorer", [*EXPLORERS, ablation_masks])
def test_every_control_changes_the_picture_without_an_error(explorer):
    widget = explorer()
    assert widget.error is None and widget.message.value == ""
    for name, control in widget.controls.items():
        if name in SWITCHES or (explorer is ablation_masks and name == "fold"):
            continue  # variants are shipped for one fold
        seen = {widget.picture.value}
        for value in VALUES[name]:
            control.value = value
            assert widget.error is None, (name, value)
            assert widget.state[name] == value
            seen.add(widget.picture.value)
        assert len(seen) > 1, f"{name} changes nothing"


@pytest.mark.parametrize("explorer", [*EXPLORERS, ablation_masks])
def test_photographs_have_controls_of_their_own_and_a_credit(explorer):
    widget, cells = explorer(), object_episodes().bank.features.shape[2]
    controls = widget.controls

    def ends():
        return {name: (getattr(one, "max", None), getattr(one, "options", None)) for name, one in controls.items()}

    drawn = ends()
    if "position" in controls:
        controls["position"].value = 19
    controls["photographs"].value = True
    assert widget.error is None and OBJECTS_CREDIT in widget.caption.value
    assert {name for name, one in controls.items() if one.layout.display == "none"} == {"fold", "gap"}
    if "position" in controls:
        assert [name for name, _ in controls["position"].options] == list(object_episodes().class_names)
        assert controls["position"].value == 12
    channels = object_episodes().head.config.channels
    largest = {"n_shot": 3, "row": cells - 1, "column": cells - 1, "page": 4, "channel": channels - 1}
    for name in ["seed", "position", *largest]:
        if name in controls:
            before = widget.picture.value
            controls[name].value = largest.get(name, 5)
            assert widget.error is None and widget.picture.value != before, name
            assert name not in largest or controls[name].max == largest[name]
    controls["photographs"].value = False
    assert ends() == drawn and widget.error is None and OBJECTS_CREDIT not in widget.caption.value


@pytest.mark.parametrize("world", ["toy", "photographs"])
def test_each_variant_answers_with_its_own_weights(world):
    """Against a score with each head by itself; what a variant lacks is off in its configuration, alone."""
    shown = toy_episodes(0, 0.5) if world == "toy" else object_episodes()
    episodes = shown.episodes(count=3)
    full = load_trained(world)
    off = {"pseudo_prototype": False}, {"interaction": "off"}, {"fusion": "single"}
    lacks = dict(zip(("full", "support only", "no interaction", "one scale"), ({}, *off), strict=True))
    assert set(VARIANTS[world]) == lacks.keys() - ({"no interaction"} if world == "toy" else set())
    for name in VARIANTS[world]:
        trained = load_trained(world + ("" if name == "full" else f"_{name.replace(' ', '_')}"))
        assert trained.head.config == replace(full.head.config, **lacks[name])
        assert (trained.size, trained.backbone.fingerprint) == (shown.size, shown.backbone.fingerprint)
        counts = score_episodes(head_segmenter(trained.head), shown.bank, episodes).counts
        for episode, (both, either, *_) in zip(episodes, counts, strict=True):
            answers = open_variants(shown, world, episode)
            assert answers[name].iou == pytest.approx(both / either)


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def click_on(widget, panel, place):
    """A click on a place of a panel, in its units, while the page shows the picture at half its size."""
    across, up = widget.figure.axes[panel].transData.transform(place) * (100 / widget.figure.dpi)
    height, width = picture(widget.picture.value).shape[:2]
    shown = {"boundingRectWidth": width / 2, "boundingRectHeight": height / 2}
    widget.clicked({"relativeX": across / 2, "relativeY": (height - up) / 2, "dataX": 0, "dataY": 0, **shown})


def test_the_gallery_sorts_all_classes_by_precision():
    widget = gallery_explorer()
    precisions, names = [], []
    for page in range(1, 6):
        widget.controls["page"].value = page
        precisions += [float(title.split()[1]) for title in titles(widget.figure)[4:8]]
        names += titles(widget.figure)[:4]
    assert precisions == sorted(precisions, reverse=True) and len(set(precisions)) > 5
    assert len(set(names)) == len(names) == 20
    widget.change({"best_first": False, "page": 1})
    assert titles(widget.figure)[4] == f"precision {precisions[-1]:.2f}"
    names = titles(widget.figure)[:4]
    widget.change({"rule": "threshold", "judge": "cycle, weighted, consensus (default)"})
    assert titles(widget.figure)[:4] == names  # the same episodes under another rule


def test_tables_of_tiles_and_cases_show_each_episode_in_its_place(toy):
    others = [toy.open(episode) for episode in toy.episodes(count=4)]
    tiles = tiles_figure([others[:2], others[2:]], ["one", "two"])
    assert titles(tiles) == [f"{one.class_name}\nprecision {precision_of(one):.2f}" for one in others]
    assert [axes.get_ylabel() for axes in tiles.axes] == ["one", "", "two", ""]
    with pytest.raises(ValueError, match="rows have 2, 1 episodes and 2 names"):
        tiles_figure([others[:2], others[:1]], ["one", "two"])
    with pytest.raises(ValueError, match="rows have 2, 2 episodes and 1 names"):
        tiles_figure([others[:2], others[2:]], ["one"])
    cases = titles(cases_figure(others))
    assert cases[:4] == [one.class_name for one in others] and cases[8:] == [f"IoU {one.iou:.2f}" for one in others]
    both = cases_figure(others, {"rival": others[::-1]}, name="own")
    assert titles(both)[12:] == [f"IoU {one.iou:.2f}" for one in others[::-1]]
    assert [axes.get_ylabel() for axes in both.axes[::4]] == ["support", "selected cells", "own", "rival"]


def test_every_way_is_marked_where_it_starts_matches_and_lands(far):
    one = far.open(far.episodes()[0])
    figure = cycles_figure(one)
    followed = [follow_cycle(one, divmod(cell, 24)) for cell in range(576)]
    followed = [cycle for cycle in followed if cycle.starts_inside]
    wanted = [[getattr(cycle, part) for cycle in followed] for part in ("start", "match", "landing")]
    for axes, cells in zip(figure.axes, wanted, strict=True):
        dots = [dots for dots in axes.collections if isinstance(dots, PathCollection)]
        drawn = np.concatenate([each.get_offsets() for each in dots])  # x and y in pixels, 4 to a cell
        found = sorted((int((y + 0.5) // 4), int((x + 0.5) // 4)) for x, y in drawn)
        assert found == sorted(cells)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    kept = sum(cycle.accepted for cycle in followed)
    assert sum(int(text.split(": ")[1]) for text in texts[:2]) == kept
    assert sum(int(text.split(": ")[1]) for text in texts) == len(followed)


def test_class_names_follow_the_fold():
    widget = episode_explorer()
    first = widget.controls["position"].label
    widget.controls["position"].value = 4
    widget.controls["fold"].value = 1
    assert widget.controls["position"].value == 4  # the same place in the other fold's list
    assert widget.controls["position"].options[0][0] != first


def test_an_error_is_shown_and_kept_and_goes_away():
    def draw(number):
        if number == 2:
            raise ValueError("two is <too> much")
        from matplotlib.figure import Figure

        return Figure(figsize=(1, 1))

    control = ipywidgets.IntSlider(1, min=0, max=3)
    widget = Explorer(draw, {"number": control}, alt="nothing")
    before = widget.picture.value
    control.value = 2
    assert isinstance(widget.error, ValueError) and "two is &lt;too&gt; much" in widget.message.value
    assert widget.picture.value == before
    control.value = 3
    assert widget.error is None and widget.message.value == ""


def test_a_place_in_the_picture_is_found_in_its_panel(opened):
    figure = cycle_figure(opened, first_inside(opened))
    drawn = picture(png(figure))
    for number, axes in enumerate(figure.axes):
        for x, y in ((0, 0), (95, 40), (50.5, 95)):
            across, up = axes.transData.transform((x, y)) * (100 / figure.dpi)
            found = panel_at(figure, across, drawn.shape[0] - up)
            assert found is not None and found[0] == number and np.allclose(found[1:], (x, y), atol=1e-6)
    assert panel_at(figure, 1, 1) is None


@pytest.mark.parametrize("photographs", [False, True])
def test_a_click_on_the_support_chooses_its_cell_and_draws_once(photographs):
    widget = cycle_explorer()
    widget.controls["photographs"].value = photographs
    assert "kept" in titles(widget.figure)[1] or "rejected" in titles(widget.figure)[1]  # it begins inside the mask
    bank = (object_episodes() if photographs else toy_episodes(0, 0.5)).bank
    cells = bank.features.shape[2]
    step = bank.size / cells
    drawn = []
    widget.draw = lambda draw=widget.draw, **state: drawn.append(state) or draw(**state)
    for row, column in ((3, 20), (cells - 1, 0)):
        # Pixel 0 reaches from -0.5 to 0.5.
        click_on(widget, 0, ((column + 0.85) * step - 0.5, (row + 0.15) * step - 0.5))
        assert (widget.state["row"], widget.state["column"], widget.error) == (row, column, None)
    assert len(drawn) == 2
    for row, column in ((5, 9), (cells - 1, 1)):
        click_on(widget, 1, ((column + 0.85) * step - 0.5, (row + 0.15) * step - 0.5))
        found = follow_back(_open(**_setting(widget.state)), (row, column))
        assert (widget.state["row"], widget.state["column"], widget.state["from_query"]) == (row, column, True)
        assert titles(widget.figure)[1] == f"query: {found.verdict}" and widget.error is None
    click_on(widget, 0, (10, 10))
    assert not widget.state["from_query"] and len(drawn) == 5


def test_the_way_back_from_the_query_is_that_of_a_plain_search(opened):
    """Cell by cell: the nearest support cell, and the first one of the mask whose nearest query cell it is."""
    support = torch.nn.functional.normalize(opened.trace.support[0, 0].double().flatten(1), dim=0)
    query = torch.nn.functional.normalize(opened.trace.query[0].double().flatten(1), dim=0)
    inside = opened.trace.support_masks[0, 0].flatten() >= 0.5
    forward = {j: int((support[:, j] @ query).argmax()) for j in range(576) if inside[j]}
    asked, seen = {match: divmod(j, 24) for j, match in reversed(forward.items())}, set()
    for i in range(576):
        back = int((query[:, i] @ support).argmax())
        way = follow_back(opened, divmod(i, 24))
        assert way.landing == divmod(back, 24) and way.lands_inside == bool(inside[back])
        assert way.start == asked.get(i) and way.accepted == (bool(inside[back]) and i in asked)
        assert way.verdict.startswith("kept") == way.accepted and ("outside" in way.verdict) != way.lands_inside
        seen.add(way.verdict)
    assert len(seen) == 4
    with pytest.raises(ValueError, match=r"cell \(0, 24\) is outside the grid of 24 x 24"):
        follow_back(opened, (0, 24))


@pytest.mark.parametrize("explorer", [episode_explorer, cycle_explorer, interaction_explorer, scale_explorer])
def test_the_first_success_in_list_order_comes_first_and_the_buttons_lead_on(explorer):
    widget, shown = explorer(), toy_episodes(0, 0.5)
    rule = RULES[widget.state.get("rule", "cycle, weighted, consensus (default)")]
    found = [(seed, shown.open(one, **rule)) for seed in (0, 1) for one in shown.episodes(count=20, seed=seed)]
    places = [(shown.novel.index(one.episode.class_index), seed) for seed, one in found]
    ious = [(one.prediction & one.truth).sum() / (one.prediction | one.truth).sum() for _, one in found]
    first = next(n for n, iou in enumerate(ious) if iou >= 0.7)
    told = f"Episode {first + 1} of the list with seed 0, the first with an IoU"
    bad = [n for n, iou in enumerate(ious) if iou < 0.5 and n > first][:3]
    last = next(n for n, iou in enumerate(ious) if iou >= 0.7 and n > bad[-1])
    steps = [("Success", first), *(("Failure", n) for n in bad), ("Success", last)]
    for number, (kind, wanted) in enumerate(steps):
        if number:
            widget.buttons[kind.lower()].click()
        assert (widget.state["position"], widget.state["seed"]) == places[wanted]
        assert f"<b>{kind}</b>" in widget.caption.value and (told in widget.caption.value) == (number == 0)
        assert f"{kind}, IoU" in widget._repr_mimebundle_()["text/plain"]  # the alternative text says so, too


def test_the_gallery_leads_from_one_list_with_a_failure_to_the_next(monkeypatch):
    widget = gallery_explorer()
    assert "None of these is a failure" in widget.caption.value and widget.state["best_first"]
    for seed in (0, 1):
        widget.buttons["failure"].click()
        assert (widget.state["best_first"], widget.state["seed"], widget.state["page"]) == (False, seed, 1)
        failed = sum(float(title.split()[1]) < 0.5 for title in titles(widget.figure)[8:12])
        assert failed == widget.caption.value.count("<b>Failure</b>") > 0
    monkeypatch.setattr(apps, "outcome", lambda iou: "success")
    widget.buttons["failure"].click()
    assert widget.error is None and "no failure in the next 8 lists of episodes" in widget.message.value


def test_the_words_on_a_failure_are_counts_of_pixels():
    """One answer off the object, one over its edge: shares by hand."""
    truth, other, mask = (np.zeros((10, 10), bool) for _ in range(3))
    truth[:4, :5], other[6:, :5], mask[5:, :5] = True, True, True

    def answer(found, selected):
        iou = (found & truth).sum() / (found | truth).sum()
        return SimpleNamespace(iou=iou, prediction=found, truth=truth, selected=selected, others={"cup": other})

    weights = 0.1 * truth + 1.0 * other  # 2 and 20
    text = why(answer(mask, weights), answer(truth, weights))
    assert "<b>Failure</b>, IoU 0.00: the selection lies 9 % on the object, 91 % on another object (cup)" in text
    assert "the mask 0 % on the object, 80 % on another object (cup), 20 % on the background; it misses 100 %" in text
    assert why(answer(mask, weights), answer(truth | other, weights)).endswith("would have mended a part of it.")
    assert text.endswith("reach 1.00: a better selection would have mended it.")
    bled = np.ones((10, 10), bool) & ~other
    text = why(answer(bled, 1.0 * truth), answer(bled, 1.0 * truth))
    assert "the selection lies 100 % on the object, the mask 25 % on the object, 75 % on the background." in text
    assert text.endswith("reach 0.25: a better selection alone would not do.")
    three = answer(mask, weights)
    three.others = {"mug": other & (np.arange(10) < 2), "cup": other & (np.arange(10) >= 2)}  # 8 and 12 of 22
    assert "9 % on the object, 91 % on other objects (the cup most)," in why(three)


def test_a_click_on_the_correlation_chooses_a_channel():
    widget = interaction_explorer()
    click_on(widget, 2, (10, 41.3))
    assert widget.state["channel"] == 41 and widget.error is None and "channel 41: u = " in widget.caption.value


def test_a_click_that_means_nothing_hides_no_error_and_one_that_fails_is_told():
    widget = cycle_explorer()
    right = widget.draw
    widget.draw = lambda **state: 1 // 0
    widget.redraw()
    widget.click = lambda *place: {}
    click_on(widget, 1, (50, 50))
    assert isinstance(widget.error, ZeroDivisionError) and "ZeroDivisionError" in widget.message.value
    widget.draw = right
    click_on(widget, 1, (50, 50))
    assert widget.error is None and widget.message.value == ""
    widget.click = lambda *place: {"row": "far"}
    click_on(widget, 0, (50, 50))
    assert widget.error is not None and "cannot be drawn" in widget.message.value


def test_labels_of_other_widths_get_places_of_their_own():
    """A layout found for narrow labels of colour bars would print wide ones over the next panel."""
    widget = scale_explorer()
    for state in ({"gap": 1.0, "position": 11, "level": 3}, {"gap": 0.5, "position": 0, "level": 0}):
        widget.change(state)
        renderer = FigureCanvasAgg(widget.figure).get_renderer()
        boxes = [axes.get_tightbbox(renderer) for axes in widget.figure.axes if axes.get_visible()]
        assert not any(a.shrunk(0.98, 0.98).overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        name = ("dilation 1", "global mean")[state["level"] > 0]
        assert f"{name} {titles(widget.figure)[7][-4:]}" in widget.caption.value  # "flattened: IoU ..."


def test_the_pictures_show_the_prediction_and_its_numbers(opened):
    titles_of = titles(episode_figure(opened))
    assert titles_of[-2:] == [f"prediction: IoU {opened.iou:.2f}", "truth"]
    shown = {axes.get_title(): axes.images[0].get_array() for axes in episode_figure(opened).axes}
    assert np.allclose(shown[titles_of[-2]], overlay(opened.query_image, opened.prediction, ORANGE))
    assert np.allclose(shown["truth"], overlay(opened.query_image, opened.truth, GREEN))
    precision, recall = selection_quality(opened.trace.reliable[0], opened.truth_shares)
    assert abs(precision - recall) > 0.01  # else an exchange would not be seen
    cycle = cycle_figure(opened, first_inside(opened))
    assert titles(cycle)[2] == f"selected: precision {precision:.2f}, recall {recall:.2f}"
    start = cycle.axes[0].lines[0].get_xydata()[0]
    row, column = first_inside(opened)
    assert row != column and start.tolist() == [4 * column + 1.5, 4 * row + 1.5]


def test_every_rule_is_the_one_that_it_is_called():
    wanted = {"query first": "query_first", "threshold": "threshold", "top k": "top_k", "oracle": "oracle"}
    for name, switches in RULES.items():
        assert switches.get("selection", "support_first") == wanted.get(name, "support_first"), name
    assert RULES["plain cycle"] == {"selection": "support_first", "weighted_pooling": False, "consensus_rounds": 0}


def test_a_page_without_a_kernel_gets_the_picture():
    widget = cycle_explorer()
    bundle = widget._repr_mimebundle_()
    assert bundle["text/plain"].startswith("A support pixel") and len(bundle["image/png"]) > 1000
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_an_answer_is_shown_beside_the_truth_with_its_iou():
    (support, query), (mask, truth) = (
        [OBJECTS_FOLDER / name.format(number) for number in (0, 2)]
        for name in ("images/dog3_0{}.webp", "masks/dog3_0{}.png")
    )
    answer = Predictor.load("photographs").set_support([support], [mask]).predict(query, trace=True)
    inside = np.array(Image.open(truth)) > 0
    iou = ((answer.mask == 1) & inside).sum() / ((answer.mask == 1) | inside).sum()
    figure = answer_figure(answer, support, mask, query, truth)
    assert titles(figure)[3] == f"prediction: IoU {iou:.2f}" and 0.1 < iou < 1
