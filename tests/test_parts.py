"""A step divided among processes and parts: every episode once, the same channels dropped, the same gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dpnet_lite.model.head import Head
from dpnet_lite.parts import StepParts, mirrored_views
from hypothesis import given
from hypothesis import strategies as st

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.episodes import Episode
from dpnet_lite.experiments.experiment import FoldData, toy_fold
from dpnet_lite.training import Trainer

MODEL = ModelConfig(channels=8, dropout=0.3)
TRAINING = TrainingConfig(
    steps=6,
    batch_size=4,
    warmup_steps=2,
    flip=False,
    seed=5,
    foreground_weight=3.0,
    optimiser="sgd",
    learning_rate=0.05,
    weight_decay=1e-4,
)


@pytest.fixture(scope="module")
def data() -> FoldData:
    data = toy_fold(build_backbone("tiny", "random", seed=1), 2, seed=0, n_train=150, n_test=40)
    data.train.labels[:, :30, ::3] = 255  # ignored pixels: the parts of a step then weigh differently
    data.train.labels[::2, 40:, :] = 255
    return data


@given(n_processes=st.integers(1, 4), accumulate=st.integers(1, 3), size=st.integers(1, 3), first=st.integers(0, 3))
def test_no_episode_is_left_out_or_taken_twice(n_processes, accumulate, size, first):
    batch = n_processes * accumulate * size
    config = TrainingConfig(steps=6, batch_size=batch, accumulate=accumulate)
    episodes = [Episode(0, number, (number + 1,)) for number in range(6 * batch)]
    steps = range(first, 6)
    shares = [StepParts(episodes, config, steps, rank=rank, n_processes=n_processes) for rank in range(n_processes)]
    taken = [part for share in shares for part in share]
    numbers = [episode.query for part in taken for episode in part.episodes]
    assert sorted(numbers) == list(range(first * batch, 6 * batch))
    assert len({len(share) for share in shares}) == 1  # no process waits for another one's extra part
    for part in taken:
        assert [e.query for e in part.episodes] == [part.step * batch + part.first + k for k in range(size)]


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="batch_size is 6, but 2 processes take it in 2 parts each; give a multiple"):
        StepParts([], TrainingConfig(batch_size=6, accumulate=2), range(1), n_processes=2)


def test_mirroring_does_not_depend_on_the_division():
    config = TrainingConfig(steps=4, batch_size=8, n_shot=2, seed=3)
    episodes = [Episode(0, number, (number + 1, number + 2)) for number in range(32)]
    whole = [view for part in StepParts(episodes, config, range(4)) for view in mirrored_views(part, config)]
    halves = [StepParts(episodes, replace(config, accumulate=2), range(4), rank=r, n_processes=2) for r in (0, 1)]
    divided = {
        (part.step, part.first + row): view
        for share in halves
        for part in share
        for row, view in enumerate(mirrored_views(part, config))
    }
    assert [divided[key] for key in sorted(divided)] == whole
    assert len(set(map(tuple, whole))) > 2  # and it does vary


def test_an_episode_loses_the_same_channels_in_a_part_as_in_the_whole(data):
    head = Head(replace(MODEL, dropout=0.5), 144, 96).train()
    generator = torch.Generator().manual_seed(0)
    supports = torch.rand(4, 2, 144, 6, 6, generator=generator)
    queries = torch.rand(4, 144, 6, 6, generator=generator)

    def reduced(rows: slice, place: tuple[int, int]) -> torch.Tensor:
        torch.manual_seed(9)
        head.draw_kept_channels(len(supports[rows]), first=place[0], whole=place[1])
        return torch.cat([part.flatten(1) for part in head.reduced(supports[rows], queries[rows])], dim=1)

    whole = reduced(slice(0, 4), (0, 4))
    torch.testing.assert_close(reduced(slice(1, 3), (1, 4)), whole[1:3])
    assert not torch.equal(whole == 0, whole.roll(1, 0) == 0)  # episodes differ


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("auxiliary", ["query", "support"])
def test_a_step_in_parts_equals_a_step_at_once(data, accumulate, auxiliary):
    model = replace(MODEL, auxiliary=auxiliary)
    whole = Trainer(model, TRAINING, data.train, data.base, fold=2).run()
    parts = Trainer(model, replace(TRAINING, accumulate=accumulate), data.train, data.base, fold=2).run()
    wrong = Trainer(model, replace(TRAINING, batch_size=4 // accumulate), data.train, data.base, fold=2).run()
    far = 0.0
    for name, tensor in whole.head.state_dict().items():
        torch.testing.assert_close(parts.head.state_dict()[name], tensor, rtol=0, atol=1e-5)
        far = max(far, float((wrong.head.state_dict()[name] - tensor).abs().max()))
    assert far > 1e-3  # other episodes give other weights
    assert parts.losses[-1]["loss"] == pytest.approx(whole.losses[-1]["loss"], rel=1e-4)


def test_a_part_in_which_every_pixel_is_ignored_adds_nothing(data):
    trainer = Trainer(MODEL, replace(TRAINING, steps=1, accumulate=4), data.train, data.base, fold=2)
    first = trainer.episodes[0]
    kept = data.train.labels[first.query].clone()
    data.train.labels[first.query] = 255
    try:
        result = trainer.run()
    finally:
        data.train.labels[first.query] = kept
    assert all(torch.isfinite(tensor).all() for tensor in result.head.state_dict().values())
    assert result.losses[0]["main"] > 0
