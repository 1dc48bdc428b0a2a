"""Experiments and their rivals: wrong numbers are refused, the rival is fair, tables line up and hide no doubt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.backbones.devices import check_device
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.devices import make_fabric, world_size
from dpnet_lite.experiments.experiment import Experiment, plain_name, toy_fold
from dpnet_lite.experiments.intervals import percent
from dpnet_lite.experiments.jobs import METHODS, TRAINING_FREE, support_only
from dpnet_lite.experiments.progress import is_first_process
from dpnet_lite.experiments.tables import aligned, difference_cell, enough_episodes, score_cell
from dpnet_lite.training import Trainer, initial_network


@pytest.fixture
def config() -> Experiment:
    return Experiment("toy", ModelConfig(channels=8), TrainingConfig(steps=3, batch_size=2, warmup_steps=1), "tiny", 64)


@pytest.mark.parametrize("interaction", ["joint", "correlation"])
def test_the_rival_has_the_same_size_and_starts_from_the_same_weights(config, interaction):
    """Nothing but the pseudo-prototype is taken from it: same budget, episodes and starting point."""
    full = replace(config.model, interaction=interaction)
    backbone = build_backbone("tiny", "random")
    data = toy_fold(backbone, 0, seed=0, n_train=62, n_test=42)
    heads = [initial_network(model, backbone, seed=0) for model in (full, support_only(full))]
    trainers = [Trainer(head, config.training, data.train, data.base, fold=0) for head in heads]
    assert trainers[0].episodes == trainers[1].episodes
    own, other = (head.state_dict() for head in heads)
    assert list(own) == list(other) and all(torch.equal(own[name], other[name]) for name in own)
    assert {k for k, v in full.to_dict().items() if support_only(full).to_dict()[k] != v} == {"pseudo_prototype"}
    batch = data.train.batch(trainers[0].episodes[:2])
    outputs = [head.eval()(batch, batch.cells).logits for head in heads]
    assert not torch.equal(*outputs)  # yet it is another network


def test_wrong_numbers_are_refused_before_any_training(config):
    for change, message in (
        ({"n_episodes": 0}, "--episodes has 0; give at least 1"),
        ({"shots": (1, 0)}, "--shots has 0; give at least 1"),
        ({"seeds": (-1,)}, "--seeds has -1; give at least 0"),
        ({"size": 0}, "--size has 0; give at least 1"),
        ({"seeds": (0, 1, 0)}, r"seeds are \(0, 1, 0\); give each once"),
        ({"n_folds": 5}, "the toy world has 4 interleaved folds, not 5 interleaved ones"),
        ({"layout": "blocked"}, "the toy world has 4 interleaved folds, not 4 blocked ones"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(config, **change)


@pytest.mark.parametrize(("n_gpus", "mps", "auto"), [(2, False, "cuda"), (0, True, "mps"), (0, False, "cpu")])
def test_a_device_is_one_that_is_here_and_auto_the_first_of_them(n_gpus, mps, auto, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: n_gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: n_gpus)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    here = [*(["cuda", "cuda:0", "cuda:1"] if n_gpus else []), *(["mps", "mps:0"] if mps else []), "cpu"]
    assert check_device("auto") == auto and [check_device(device) for device in here] == here
    for device in ("cuda:99", "cuda:", "cpu:0", "tpu", "", *({"cuda", "mps"} - {*here})):
        with pytest.raises(ValueError, match=f"^device is '{device}', but PyTorch finds {', '.join(here)} here; use"):
            check_device(device)


def test_several_processes_without_torchrun_are_refused(monkeypatch):
    """They would wait for each other for ever."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert world_size() == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="WORLD_SIZE=2, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set: unset it, or"):
        make_fabric("cpu", "32-true")
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ValueError, match="WORLD_SIZE=two, "):
        world_size()
    for size, rank, is_first in (("2", "1", False), ("2", "0", True), ("1", "1", True)):  # a RANK that was left over
        monkeypatch.setenv("WORLD_SIZE", size)
        monkeypatch.setenv("RANK", rank)
        assert is_first_process() is is_first


def test_a_class_with_few_episodes_has_no_interval():
    def scores(*counts):
        index = np.repeat(np.arange(len(counts)), counts)
        return EpisodeScores(index, np.tile([3, 5, 4, 6], (len(index), 1)), tuple("abc"))

    assert enough_episodes([scores(5, 5), scores(7, 6)])
    assert not enough_episodes([scores(9, 4)]) and not enough_episodes([scores(9, 9), scores(5, 4, 5)])
    assert "[" in score_cell([scores(5, 5)]) and "[" not in score_cell([scores(9, 4)])
    few = {(method, 1): scores(9, 4) for method in METHODS}
    assert "[" not in difference_cell([few], TRAINING_FREE, 1)


def test_tables_line_up():
    table = aligned([["method", "x"], ["a", "1.0"], ["longer name", "2"]])
    assert table.splitlines() == [
        "| method      | x   |",
        "|-------------|-----|",
        "| a           | 1.0 |",
        "| longer name | 2   |",
    ]
    assert percent(0.41659) == "41.7" and percent(-0.01, signed=True) == "-1.0" and percent(0.02, signed=True) == "+2.0"


def test_a_class_is_known_however_its_name_is_spelt():
    assert plain_name("folder:B/Gru\u0308n") == plain_name("gr\u00fcn") == plain_name("GR\u00dcN") != plain_name("grun")
    assert plain_name("wine_glass") == plain_name("Wine-Glass") == plain_name("wine glass")
    assert plain_name("aeroplane") == plain_name("airplane") and plain_name("potted plant") == plain_name("pottedplant")
    assert plain_name("bolt 1-1") != plain_name("bolt 11") and plain_name("M-1 2") != plain_name("M-12")
