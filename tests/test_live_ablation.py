"""The live ablation: pairs are pairs, what is known is not trained again, and the page stays usable."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from dpnet_lite.ablation.live import Bench, LiveAblation, LiveResult
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.explorers.ablation import (
    CONTROL,
    SWITCHES,
    AblationLab,
    ablation_figure,
    base_model,
    shipped_differences,
    variant_model,
    variant_name,
)
from dpnet_lite.fold_data import TEST_SEED
from dpnet_lite.intervals import mean_paired_difference
from dpnet_lite.resampling import Interval
from dpnet_lite.scoring import head_segmenter, score_episodes

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
    ours, theirs = control.head.module.state_dict(), variant.head.module.state_dict()
    shared = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    assert len(shared) > 10 and all(torch.equal(ours[name], theirs[name]) for name in shared)
    assert bench.episodes(0).seed == TEST_SEED


def test_the_control_itself_is_no_variant(bench):
    with pytest.raises(ValueError, match="'same' is the control itself; change a switch"):
        LiveAblation("same", FULL, FULL, bench)


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
        assert isinstance(lab.error, ValueError) and "count is 0" in lab.message.value

    asyncio.run(play(small_lab()))
