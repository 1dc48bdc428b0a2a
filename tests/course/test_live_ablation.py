"""The live ablation: pairs are pairs, what is known is not trained again, and the page stays usable."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.course.explorers.ablation import (
    CONTROL,
    SWITCHES,
    AblationLab,
    ablation_figure,
    base_model,
    shipped_differences,
    variant_model,
    variant_name,
)
from dpnet_lite.course.live_ablation import Bench, LiveAblation, LiveResult
from dpnet_lite.course.live_training import small_toy_fold
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.experiment import TEST_SEED
from dpnet_lite.experiments.intervals import Interval, mean_paired_difference
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


def test_the_control_itself_is_no_variant(bench):
    with pytest.raises(ValueError, match="'same' is the control itself; change a switch"):
        LiveAblation("same", FULL, FULL, bench)


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


def test_a_piece_has_at_least_one_step(bench):
    with pytest.raises(ValueError, match="steps is 0; give at least 1"):
        LiveAblation("v", VARIANT, FULL, bench).advance(0)


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


def test_the_picture_shows_live_and_shipped_differences_apart():
    shipped = shipped_differences()
    live = [LiveResult("MSF off", -0.01, Interval(-0.03, 0.02), 4)]
    axes = ablation_figure(live, shipped).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["MSF off", *shipped]
    colours = [line.get_color() for line in axes.lines[0 : 2 * (1 + len(shipped)) : 2]]
    assert len(set(colours[1:])) == 1 and colours[0] != colours[1]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [-3, 2])
    assert axes.lines[1].get_xdata()[0] == pytest.approx(-1)
    assert shipped["support only"].difference < 0


def test_the_key_says_which_bars_are_short_and_which_full_length():
    figure = ablation_figure([LiveResult("MSF off", -0.01, Interval(-0.03, 0.02), 4)], shipped_differences())
    key = figure.legends[0]
    handles = {text.get_text(): handle for text, handle in zip(key.texts, key.legend_handles, strict=True)}
    lines = figure.axes[0].lines
    for name, dot in (("short live run", lines[1]), ("full length, shipped", lines[3])):
        assert (handles[name].get_color(), handles[name].get_marker()) == (dot.get_color(), dot.get_marker())


@pytest.mark.filterwarnings("error")
def test_names_of_many_switches_leave_room_for_the_bars():
    last = {name: list(values)[-1] for name, values in SWITCHES.items()}
    live = [
        LiveResult(name, -0.01, Interval(-0.03, 0.02), 4)
        for name in (variant_name(last), f"{variant_name(last)} again")
    ]
    figure = ablation_figure(live, shipped_differences())
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    assert axes.bbox.width > 0.5 * figure.bbox.width
    boxes = [text.get_window_extent(renderer) for text in axes.get_yticklabels()]
    assert all(box.x0 >= 0 for box in boxes)
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))


def small_lab() -> AblationLab:
    return AblationLab(Bench((0,), (1,), TrainingConfig(steps=12, batch_size=1, flip=False), n_episodes=20, n_train=70))


def test_a_switch_starts_a_run_and_its_bar_joins_the_picture():
    async def play(lab):
        before = lab.picture.value
        lab.switches["MSF"].value = "off"
        assert lab.training and lab.pause.disabled  # it has not begun yet
        await lab.task
        assert lab.error is None and set(lab.results) == {"MSF off"} and lab.picture.value != before
        lab.switches["MSF"].value = "ASPP"
        assert not lab.training and "full network itself" in lab.message.value
        lab.switches["MSF"].value = "off"
        assert not lab.training and "done before" in lab.message.value

    asyncio.run(play(small_lab()))


def test_a_run_can_be_stopped_and_another_switch_takes_its_place():
    async def play(lab):
        lab.switches["CCM"].value = "off"
        while lab.run is None or lab.run.step < 3:
            await asyncio.sleep(0.005)
        lab.stop.click()
        await asyncio.sleep(0.05)
        assert not lab.training and not lab.results and "stopped" in lab.message.value
        lab.start.click()
        while lab.run is None or lab.run.step < 3:
            await asyncio.sleep(0.005)
        lab.switches["PIM"].value = "off"
        await lab.task
        assert set(lab.results) == {"CCM off, PIM off"}

    asyncio.run(play(small_lab()))


def test_every_switch_can_be_driven_through_its_values(monkeypatch):
    async def play(lab):
        for name, switch in lab.switches.items():
            for value in SWITCHES[name]:
                switch.value = value
                if lab.training:
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
        lab.switches["MSF"].value = "off"
        await lab.task
        assert isinstance(lab.error, ValueError) and "n_episodes is 0; give at least 1" in lab.message.value

    asyncio.run(play(small_lab()))
