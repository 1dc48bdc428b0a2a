"""The live ablation: pairs are pairs, what is known is not trained again, and the page stays usable."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dpnet_lite.ablation.comparisons import judge
from dpnet_lite.ablation.studies import Comparison, load_study
from dpnet_lite.ablation.table import shipped_rows
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.course.explorers.ablation import (
    CONTROL,
    SWITCHES,
    AblationLab,
    ablation_figure,
    answers_of,
    base_model,
    changes_of,
    expected_widths,
    shipped_difference,
    shipped_differences,
    variant_model,
    variant_name,
)
from dpnet_lite.course.explorers.apps import live_ablation
from dpnet_lite.course.explorers.episode import object_episodes, open_variants, toy_episodes
from dpnet_lite.course.explorers.outcomes import outcome
from dpnet_lite.course.live_ablation import Bench, LiveAblation, LiveResult
from dpnet_lite.course.live_training import small_toy_fold
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.experiment import TEST_SEED
from dpnet_lite.experiments.intervals import Interval, mean_paired_difference, percent
from dpnet_lite.scoring import head_segmenter, score_episodes
from dpnet_lite.training import Trainer, initial_network

FULL = ModelConfig(channels=8)
VARIANT = replace(FULL, pseudo_prototype=False)
SINGLE = replace(FULL, fusion="single")


@pytest.fixture
def bench() -> Bench:
    return Bench((0,), (1, 2), TrainingConfig(steps=7, batch_size=2, flip=False), n_episodes=40, n_train=70)


def finish(run: LiveAblation, piece: int) -> LiveAblation:
    while not run.done:
        run.advance(piece)
    return run


def test_the_result_is_that_of_training_each_by_itself(bench):
    result = finish(LiveAblation("support only", VARIANT, FULL, bench), 3).result
    scores = {}
    for model in (VARIANT, FULL):
        for seed in (1, 2):
            head = bench.trainer(model, FULL, 0, seed).run().head
            scores[model, seed] = score_episodes(head_segmenter(head), bench.data(0).test, bench.episodes(0))
    own, other = ([scores[model, seed] for seed in (1, 2)] for model in (VARIANT, FULL))
    assert result == LiveResult("support only", *mean_paired_difference(own, other), 2)


@pytest.mark.parametrize("piece", [1, 5, 100])
def test_however_it_is_cut_up_the_result_is_the_same(bench, piece):
    run = LiveAblation("v", VARIANT, FULL, bench)
    seen = []
    while not run.done:
        run.advance(piece)
        seen.append(run.step)
    assert seen == sorted(seen) and seen[-1] == run.steps == 4 * 7 + 1
    whole = Bench((0,), (1, 2), bench.training, bench.n_episodes, bench.n_train)
    assert run.result == finish(LiveAblation("v", VARIANT, FULL, whole), 7).result


def test_the_control_is_trained_once(bench):
    finish(LiveAblation("v", VARIANT, FULL, bench), 10)
    second = LiveAblation("single", SINGLE, FULL, bench)
    assert [key[0] for key in second.todo] == [SINGLE, SINGLE]
    finish(second, 10)
    assert LiveAblation("single", SINGLE, FULL, bench).steps == 1


def test_pairs_start_alike_and_see_the_same_episodes(bench):
    control, variant = (bench.trainer(model, FULL, 0, 1) for model in (FULL, SINGLE))
    assert control.episodes.sha256 == variant.episodes.sha256
    ours, theirs = control.network.state_dict(), variant.network.state_dict()
    shared = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    assert len(shared) > 10 and all(torch.equal(ours[name], theirs[name]) for name in shared)
    assert bench.episodes(0).seed == TEST_SEED


def test_a_variant_is_not_the_control_and_a_piece_has_a_step(bench):
    with pytest.raises(ValueError, match="'same' is the control itself; change a switch"):
        LiveAblation("same", FULL, FULL, bench)
    with pytest.raises(ValueError, match="steps is 0; give at least 1"):
        LiveAblation("v", VARIANT, FULL, bench).advance(0)


def plain_scores(model, start, fold, seed, bench):
    """A network trained in one piece and scored, without the bench's own functions."""
    data = small_toy_fold(fold, n_train=bench.n_train)
    training = replace(bench.training, seed=seed)
    first = initial_network(start, data.train.backbone, seed).state_dict()
    network = initial_network(model, data.train.backbone, seed, initial_weights=first)
    head = Trainer(network, training, data.train, data.base, fold=fold).run().head
    episodes = draw_episodes(data.test.dataset, data.novel, fold=fold, n_shot=1, count=bench.n_episodes, seed=TEST_SEED)
    return score_episodes(head_segmenter(head), data.test, episodes)


def test_every_fold_and_seed_is_a_run_of_its_own():
    bench = Bench((0, 1), (1, 2), TrainingConfig(steps=7, batch_size=2, flip=False), n_episodes=40, n_train=70)
    run = finish(LiveAblation("single", SINGLE, FULL, bench), 4)
    pairs = [(fold, seed) for fold in (0, 1) for seed in (1, 2)]
    own, other = ([plain_scores(model, FULL, *pair, bench) for pair in pairs] for model in (SINGLE, FULL))
    assert len({scores.counts.tobytes() for scores in own}) == 4  # no two runs are the same
    assert run.result == LiveResult("single", *mean_paired_difference(own, other), 4)


def test_another_control_or_budget_takes_nothing_from_earlier_runs(bench):
    """With another control a network starts from other weights: its old scores would be no pair."""
    finish(LiveAblation("v", VARIANT, FULL, bench), 10)
    other = LiveAblation("v", VARIANT, SINGLE, bench)
    assert [(key.model, key.start) for key in other.todo] == [(SINGLE, SINGLE), (VARIANT, SINGLE)] * 2
    bench.training = replace(bench.training, steps=9)
    assert len(LiveAblation("v", VARIANT, FULL, bench).todo) == 4
    bench.training = replace(bench.training, steps=7)
    assert LiveAblation("v", VARIANT, FULL, bench).todo == []
    bench.n_episodes = 60
    assert len(LiveAblation("v", VARIANT, FULL, bench).todo) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folds": ()}, r"folds is \(\); give at least one, and each once"),
        ({"seeds": (1, 1)}, r"seeds is \(1, 1\); give at least one, and each once"),
        ({"n_episodes": 0}, "n_episodes is 0; give at least 1"),
    ],
)
def test_a_bench_without_proper_pairs_is_refused_before_any_training(bench, changes, words):
    with pytest.raises(ValueError, match=words):
        LiveAblation("v", VARIANT, FULL, replace(bench, **changes))


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        ("CCM", "off", ("pseudo_prototype", False)),
        ("selection", "oracle", ("selection", "oracle")),
        ("PIM", "off", ("interaction", "off")),
        ("MSF", "off", ("fusion", "single")),
        ("auxiliary", "none", ("auxiliary", "none")),
        ("background", "off", ("background", False)),
        ("prior", "on", ("prior", True)),
    ],
)
def test_a_switch_changes_its_setting_and_no_other(name, value, setting):
    chosen = {n: next(iter(values)) for n, values in SWITCHES.items()} | {name: value}
    assert variant_model(chosen) == replace(base_model(), **dict([setting]))


def test_every_switch_is_a_setting_and_the_first_is_that_of_the_full_network():
    first = {name: next(iter(values)) for name, values in SWITCHES.items()}
    assert variant_name(first) == CONTROL and variant_model(first) == base_model()
    seen = {base_model()}
    for name, values in SWITCHES.items():
        for value in list(values)[1:]:
            chosen = {**first, name: value}
            assert variant_name(chosen) == f"{name} {value}"
            seen.add(variant_model(chosen))
    assert len(seen) == 1 + sum(len(values) - 1 for values in SWITCHES.values())


def bars_of(figure):
    return figure.axes[4]  # under four pictures


def difference_of(chosen, data="toy"):
    return shipped_difference("it", changes_of(chosen), data)


def test_the_picture_shows_live_and_shipped_differences_apart_and_lights_those_of_the_variant(opened):
    shipped = shipped_differences()
    live = [LiveResult(name, -0.01, Interval(-0.03, 0.02), 4) for name in ("MSF off", "CCM off")]
    axes = bars_of(ablation_figure([opened], "CCM off", live, list(shipped.values())))
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names == ["MSF off", "CCM off", *shipped]
    lines = axes.lines[0 : 2 * len(names) : 2]
    assert len({line.get_color() for line in lines[2:]}) == 1 and lines[0].get_color() != lines[2].get_color()
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [-3, 2])
    assert axes.lines[1].get_xdata()[0] == pytest.approx(-1)
    lit = [name for name, line in zip(names, lines, strict=True) if line.get_alpha() == 1]
    bold = [text.get_text() for text in axes.get_yticklabels() if text.get_fontweight() == "bold"]
    assert lit == bold == ["CCM off"] * 2
    key = axes.figure.legends[0]
    handles = {text.get_text(): handle for text, handle in zip(key.texts, key.legend_handles, strict=True)}
    for name, dot in (("short live run", axes.lines[1]), ("full length, shipped", axes.lines[5])):
        assert (handles[name].get_color(), handles[name].get_marker()) == (dot.get_color(), dot.get_marker())


@pytest.mark.parametrize("data", ["toy", "photos"])
def test_a_shipped_bar_is_that_of_the_study_that_trained_just_this_variant(data):
    """Against the studies' own judgement, with the names that a reader of their files would look up."""
    known = [
        ("modules", "support only", "full", {"CCM": "off"}),
        ("modules", "CCM + PIM", "full", {"MSF": "off"}),
        ("modules", "CCM", "full", {"PIM": "off", "MSF": "off"}),
        ("selection", "threshold", "cycle, support first", {"selection": "threshold"}),
    ]
    if data == "toy":
        known += [("interaction", "correlation", "joint", {"PIM": "correlation"})]
        known += [("scales", "four scales", "ASPP", {"MSF": "pyramid"})]
    for name, variant, control, chosen in known:
        study = replace(load_study(name), comparisons=(Comparison("asked", variant, control),))
        (wanted,) = judge(study, shipped_rows(name, data))
        found = difference_of(chosen, data)
        assert (found.difference, found.interval, found.pairs) == (wanted.difference, wanted.interval, wanted.pairs)
    assert difference_of({"prior": "on"}, data) is None and difference_of({"CCM": "on"}, data) is None
    assert set(shipped_differences(data)) >= {"CCM off", "PIM off", "MSF off", "CCM off, PIM off, MSF off"}


def test_the_width_foretold_is_that_of_shipped_runs_cut_down(bench):
    bench.folds, bench.seeds, bench.n_episodes = (0, 1, 2, 3), (1, 2, 3, 4, 5), 500
    low, high = expected_widths(changes_of({"CCM": "off"}), bench)  # nothing is cut: one choice of seeds
    interval = difference_of({"CCM": "off"}).interval
    assert low == high == pytest.approx(interval.high - interval.low, rel=0.2)  # fewer resamples
    few = replace(bench, folds=(0, 1), seeds=(0, 1), n_episodes=100)
    low_few, high_few = expected_widths(changes_of({"CCM": "off"}), few)
    assert 2 * high < low_few < high_few
    lows, highs = zip(*(expected_widths(changes_of({name: "off"}), few) for name in ("CCM", "PIM", "MSF")), strict=True)
    assert expected_widths(changes_of({"prior": "on"}), few) == (min(lows), max(highs))


@pytest.mark.parametrize("world", ["toy", "photographs"])
def test_a_mask_is_that_of_the_weights_that_have_just_these_settings(world):
    shown = toy_episodes(0, 0.5) if world == "toy" else object_episodes()
    episode = shown.episodes(count=len(shown.novel))[5]
    by_name = open_variants(shown, world, episode)
    for name, switch in (("support only", "CCM"), ("one scale", "MSF"), ("no interaction", "PIM")):
        masks = [one.prediction for one in answers_of(shown, world, episode, changes_of({switch: "off"}))]
        np.testing.assert_array_equal(masks, [by_name[one].prediction for one in ("full", name) if one in by_name])
    other = answers_of(shown, world, episode, changes_of({"selection": "threshold"}))[1]
    assert np.array_equal(other.prediction, shown.open(episode, selection="threshold").prediction)
    assert [len(answers_of(shown, world, episode, changes_of(one))) for one in ({"prior": "on"}, {})] == [1, 1]


def test_names_of_many_switches_leave_room_for_the_bars(opened):
    last = {name: list(values)[-1] for name, values in SWITCHES.items()}
    name = variant_name(last)
    live = [LiveResult(text, -0.01, Interval(-0.03, 0.02), 4) for text in (name, f"{name} again")]
    figure = ablation_figure([opened], name, live, list(shipped_differences().values()))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = bars_of(figure)
    assert axes.bbox.width > 0.5 * figure.bbox.width
    boxes = [text.get_window_extent(renderer) for text in axes.get_yticklabels()]
    assert all(box.x0 >= 0 for box in boxes)
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))


def small_lab() -> AblationLab:
    training = TrainingConfig(steps=12, batch_size=1, flip=False)
    return live_ablation(Bench((0,), (1,), training, n_episodes=20, n_train=70))


def test_a_switch_shows_masks_and_evidence_at_once_and_a_run_is_a_second_step():
    async def play(lab):
        assert lab.explorer.error is None and lab.explorer.figure.axes[3].get_title().startswith("CCM off")
        before = lab.picture.value
        lab.switches["CCM"].value, lab.switches["MSF"].value = "on", "off"
        assert not lab.training and lab.picture.value != before
        shipped = difference_of({"MSF": "off"})
        assert percent(shipped.difference, shipped.interval, signed=True) in lab.message.value
        low, high = expected_widths(changes_of({"MSF": "off"}), lab.bench)
        assert f"{100 * low:.0f} to {100 * high:.0f} points wide" in lab.message.value
        before = lab.picture.value
        lab.start.click()
        assert lab.training and lab.pause.disabled  # it has not begun yet
        await lab.task
        assert lab.error is None and set(lab.results) == {"MSF off"} and lab.picture.value != before
        lab.switches["MSF"].value = "ASPP"
        assert not lab.training and "full network itself" in lab.message.value
        lab.switches["MSF"].value = "off"
        assert not lab.training and "Done before" in lab.message.value

    asyncio.run(play(small_lab()))


def test_the_words_are_of_the_full_network_and_of_the_variant_and_a_failure_is_the_variants():
    explorer = small_lab().explorer
    for _ in range(2):
        explorer.buttons["failure"].click()
        full, variant = (axes.get_title().split("\n")[1] for axes in explorer.figure.axes[2:4])
        words = f"CCM off: <b>failure</b>, {variant}. Full network: <b>{outcome(float(full[4:]))}</b>, {full}: "
        assert explorer.caption.value.startswith(words)
    assert full != variant and float(full[4:]) >= 0.7


def test_a_run_can_be_stopped_and_a_switch_gives_it_up():
    async def play(lab):
        for way_out in (lab.stop.click, lambda: setattr(lab.switches["PIM"], "value", "off")):
            lab.start.click()
            while lab.run is None or lab.run.step < 3:
                await asyncio.sleep(0.005)
            way_out()
            await asyncio.sleep(0.05)
            assert not lab.training and not lab.results
        assert "CCM off, PIM off" in lab.message.value
        lab.start.click()
        await lab.task
        assert set(lab.results) == {"CCM off, PIM off"}

    asyncio.run(play(small_lab()))


def test_every_switch_can_be_driven_through_its_values(monkeypatch):
    async def play(lab):
        for name, switch in lab.switches.items():
            for value in SWITCHES[name]:
                switch.value = value
                assert lab.explorer.error is None, (name, value)
                if variant_name(lab.chosen) != CONTROL:
                    lab.start.click()
                    await lab.task
            switch.value = next(iter(SWITCHES[name]))
        assert lab.error is None
        assert len(lab.results) == sum(len(values) - 1 for values in SWITCHES.values())

    lab = small_lab()
    lab.bench.training = TrainingConfig(steps=1, batch_size=1, flip=False)
    asyncio.run(play(lab))


def test_an_error_is_shown_and_kept():
    async def play(lab):
        lab.bench.n_episodes = 0
        lab.start.click()
        await lab.task
        assert isinstance(lab.error, ValueError) and "n_episodes is 0; give at least 1" in lab.message.value

    asyncio.run(play(small_lab()))
