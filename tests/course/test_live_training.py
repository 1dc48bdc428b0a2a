"""A run cut into pieces ends like one in a single piece; the widget starts, pauses, goes on, stops and shows errors."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("ipyevents", reason="ipyevents is not installed (extra: notebooks)")

from dpnet_lite.config import ModelConfig
from dpnet_lite.course.explorers.apps import PARTS, explorer_page
from dpnet_lite.course.explorers.panels import png
from dpnet_lite.course.explorers.training import LiveTrainer, training_figure
from dpnet_lite.course.live_training import LiveTraining, Score, small_toy_fold
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.experiment import TEST_SEED
from dpnet_lite.experiments.presets import TOY
from dpnet_lite.scoring import head_segmenter, score_episodes
from dpnet_lite.training import Trainer, initial_network

TRAINING = replace(TOY.training, steps=12, batch_size=2)


@pytest.fixture(scope="module")
def data():
    return small_toy_fold(0, n_train=120, n_test=80)


@pytest.fixture
def make(data):
    return lambda: LiveTraining(data, ModelConfig(), TRAINING, score_every=5, n_episodes=20)


def test_pieces_give_the_weights_of_one_run_and_scores_when_due(data, make):
    run = make()
    seen = []
    while not run.done:
        run.advance(3)
        seen.append(run.step)
    assert seen == [3, 5, 8, 10, 12] and [score.step for score in run.scores] == [5, 10, 12]
    network = initial_network(ModelConfig(), data.train.backbone, TRAINING.seed)
    whole = Trainer(network, TRAINING, data.train, data.base, fold=0).run().head
    weights = whole.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in run.head.state_dict().items())
    last = run.scores[-1]
    assert last.base == score_episodes(head_segmenter(whole), data.train, run._base).miou
    assert last.novel == score_episodes(head_segmenter(whole), data.test, run._novel).miou
    assert {episode.class_index for episode in run._novel} <= set(data.novel)
    assert [row["step"] for row in run.losses] == [10, 12]


def test_a_wrong_interval_is_refused(data):
    with pytest.raises(ValueError, match="score_every is 0"):
        LiveTraining(data, ModelConfig(), TRAINING, score_every=0)


def test_the_curves_are_the_numbers():
    losses = [{"step": 10, "main": 0.5}, {"step": 20, "main": 0.25}]
    scores = [Score(10, 0.3, 0.2), Score(20, 0.6, 0.4)]
    loss, miou = training_figure(losses, scores, 40).axes
    assert loss.lines[0].get_xydata().tolist() == [[10, 0.5], [20, 0.25]] and loss.get_xlim() == (0, 40)
    drawn = {line.get_label(): line.get_xydata().tolist() for line in miou.lines}
    assert drawn == {"base classes": [[10, 0.3], [20, 0.6]], "novel classes": [[10, 0.2], [20, 0.4]]}


def test_an_example_stands_until_the_first_start(make):
    curves = ([{"step": 10, "main": 0.5}], [Score(10, 0.3, 0.2)], 40)
    shown, empty = LiveTrainer(make, curves), LiveTrainer(make)
    assert shown.picture.value == png(training_figure(*curves)) != empty.picture.value
    assert "an example" in shown.message.value and "press Start" in [
        t.get_text() for t in training_figure([], [], 1).axes[0].texts
    ]


def test_start_pause_go_on_and_stop(make):
    async def play(trainer):
        first = trainer.picture.value
        trainer.start.click()
        while trainer.run is None or trainer.run.step < 5:
            await asyncio.sleep(0.005)
        assert trainer.start.disabled and not trainer.pause.disabled
        trainer.pause.click()
        run, step = trainer.run, trainer.run.step
        await asyncio.sleep(0.1)
        assert trainer.run is run and run.step == step and f"step {step} of 12, paused" in trainer.message.value
        assert not trainer.start.disabled and trainer.pause.disabled and not trainer.stop.disabled
        trainer.start.click()
        await trainer.task
        assert trainer.run is run and run.done and "done" in trainer.message.value and trainer.bar.value == 12
        assert trainer.picture.value != first and trainer.error is None
        trainer.start.click()  # anew
        old = trainer.run
        while trainer.run in (None, old) or trainer.run.step < 5:
            await asyncio.sleep(0.005)
        run, step = trainer.run, trainer.run.step
        trainer.pause.click()
        trainer.start.click()  # before the event loop came by
        await trainer.task
        assert trainer.run is run and run.done and step < 12
        trainer.start.click()
        while trainer.run in (None, run) or trainer.run.step < 5:
            await asyncio.sleep(0.005)
        trainer.stop.click()
        await asyncio.sleep(0.05)
        assert trainer.run is None and "stopped" in trainer.message.value and trainer.stop.disabled

    asyncio.run(play(LiveTrainer(make)))


def test_an_error_of_the_training_is_shown_and_kept():
    async def play(trainer):
        trainer.start.click()
        await trainer.task
        assert isinstance(trainer.error, RuntimeError) and "no &lt;room&gt;" in trainer.message.value
        assert not trainer.start.disabled

    def fail():
        raise RuntimeError("no <room>")

    asyncio.run(play(LiveTrainer(fail)))


def test_a_failing_explorer_is_told_on_the_page(monkeypatch):
    def fail():
        raise OSError("no <weights>")

    monkeypatch.setitem(PARTS, "Cycle", fail)
    tabs = explorer_page().children[1]
    tabs.selected_index = 1
    assert "OSError: no &lt;weights&gt;" in tabs.children[1].children[1].value


def test_the_page_makes_each_explorer_when_it_is_looked_at():
    page = explorer_page()
    tabs = page.children[1]
    assert [len(child.children) for child in tabs.children] == [2] + [1] * (len(PARTS) - 1)
    for number in range(len(PARTS)):
        tabs.selected_index = number
        explorer = tabs.children[number].children[1]
        assert getattr(explorer, "error", None) is None and explorer.picture.value
    tabs.selected_index = 0
    assert [len(child.children) for child in tabs.children] == [2] * len(PARTS)


@pytest.mark.slow
def test_what_lesson_6_answers_on_learning_rates_is_so():
    """Five times the rate learns, not better; ten and thirty times end in background everywhere, thirty after leaps."""
    data, settings = small_toy_fold(0), replace(TOY.training, steps=120, batch_size=4)
    unseen = draw_episodes(data.test.dataset, data.novel, fold=0, n_shot=1, count=100, seed=TEST_SEED)

    def trained(factor: int, stop_after: int) -> tuple[float, list[float]]:
        run = replace(settings, learning_rate=factor * settings.learning_rate)
        network = initial_network(ModelConfig(), data.train.backbone, run.seed)
        losses: list[float] = []

        class Noted(Trainer):
            def _backward(self, *parts):
                found = super()._backward(*parts)
                losses.append(float(found[1]))
                return found

        done = Noted(network, run, data.train, data.base, fold=0).run(stop_after=stop_after)
        return score_episodes(head_segmenter(done.head), data.test, unseen).miou, losses

    usual, losses = trained(1, 120)
    assert 0.3 < trained(5, 120)[0] < usual
    assert trained(10, 60)[0] == 0
    miou, of_thirty = trained(30, 120)
    assert miou == 0 and max(of_thirty[3:]) > 3 * np.median(of_thirty[3:]) and np.median(of_thirty[-5:]) < losses[0]
