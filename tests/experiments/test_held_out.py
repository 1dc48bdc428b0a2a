"""Held-out classes, by which a checkpoint is chosen, are base classes that are not trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from core_fixtures import toy_fold

from dpnet_lite import training
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.folds import novel_classes
from dpnet_lite.experiments import jobs
from dpnet_lite.experiments.experiment import TrainingData, toy_test_world, toy_training_world

CONFIG = TrainingConfig(steps=2, batch_size=2, warmup_steps=0, validate_every=1, n_held_out=5)
DATA = TrainingData(2, toy_fold().train, toy_fold().base)


def test_neither_training_nor_validation_is_given_a_novel_class(monkeypatch):
    """The lists are told apart by the module that draws them."""
    asked = {}
    for module in (jobs, training):

        def spy(dataset, classes, *, name=module.__name__, draw=module.draw_episodes, **settings):
            asked[name] = set(classes)
            return draw(dataset, classes, **settings)

        monkeypatch.setattr(module, "draw_episodes", spy)
    jobs.train_head(DATA, ModelConfig(channels=8), CONFIG)
    held_out, trained = asked[jobs.__name__], asked[training.__name__]
    assert len(held_out) == 5 and not held_out & trained and held_out | trained == set(DATA.base)
    assert not (held_out | trained) & set(toy_fold().novel)


def test_scenes_to_train_on_show_no_novel_class_and_scenes_to_score_do():
    novel = torch.tensor([index + 1 for index in novel_classes(80, 2)])
    train, test = toy_training_world(2, seed=0, n_scenes=60), toy_test_world(2, n_scenes=20)
    assert not any(torch.isin(sample.labels, novel).any() for sample in train)
    assert all(torch.isin(sample.labels, novel).any() for sample in test)


def test_holding_out_every_class_is_refused():
    with pytest.raises(ValueError, match="n_held_out is 60, but fold 2 has 60 base classes; hold out fewer"):
        jobs.train_head(DATA, ModelConfig(channels=8), replace(CONFIG, n_held_out=60))
