"""What a run does: variants start alike, and its rows hold what an episode-by-episode reading of the network gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ablation_runs import SCENES, SMALL, runs
from dpnet_lite.model.networks import build_network

from dpnet_lite.ablation import execution
from dpnet_lite.ablation.banks import shared_fold
from dpnet_lite.ablation.masks import edit_masks
from dpnet_lite.ablation.table import unpack, unpack_scores
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.experiment import TEST_SEED


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("execution")


@pytest.fixture(scope="module")
def full(folder):
    """A run of the full network and its two rows."""
    run = next(run for run in runs(folder) if run.variant.name == "full")
    return run, execution.execute(run)


def test_variants_start_with_the_weights_of_the_base_network(folder, full, monkeypatch):
    """They share what they have in common with it, whatever else they are made of."""
    run = full[0]
    backbone = shared_fold(run.config, run.fold, run.config.gap, SCENES).train.backbone
    torch.manual_seed(run.seed)
    expected = build_network(run.config.model, backbone.out_channels, backbone.deep_channels).state_dict()
    starts, train = [], execution.train_head

    def watched(*arguments, initial_weights, **options):
        starts.append(initial_weights)
        return train(*arguments, initial_weights=initial_weights, **options)

    monkeypatch.setattr(execution, "train_head", watched)
    for settings in ({"pseudo_prototype": False}, {"fusion": "single"}):
        execution.execute(replace(run, variant=replace(run.variant, model=settings)))
    assert len(starts) == 2
    for start in starts:
        assert start.keys() == expected.keys()
        assert all(torch.equal(start[name], weights) for name, weights in expected.items())


def test_rows_hold_the_precision_of_every_selection_under_every_condition(full):
    run, rows = full
    data = shared_fold(run.config, run.fold, run.config.gap, SCENES)
    head, facts = execution._trained(run)  # kept beside the features
    assert facts["training_seconds"] == rows[0]["training_seconds"]
    assert [len(unpack(row["precision"], np.float16)) for row in rows] == [SMALL.n_episodes] * 2
    for row, condition in zip(rows, run.conditions, strict=True):
        episodes = draw_episodes(
            data.test.dataset, data.novel, fold=run.fold, n_shot=condition.n_shot, count=run.n_episodes, seed=TEST_SEED
        )
        assert unpack_scores(row["scores"]).episodes_sha256 == episodes.sha256
        for number in (0, 17, 39):
            batch = data.test.batch(
                [episodes[number]], edit_support=lambda m, c=condition: edit_masks(m, edit=c.mask, pixels=c.pixels)
            )
            cells = tuple(batch.query_features.shape[-2:])
            with torch.no_grad():
                output = head(
                    batch.support_features,
                    batch.support_masks,
                    batch.query_features,
                    size=cells,
                    support_background=batch.support_background,
                    trace=True,
                )
            share = output.trace.reliable[0].numpy()
            truth = (batch.query_labels[0].numpy() == 1).astype(float)
            block = truth.shape[0] // cells[0]
            truth = truth.reshape(cells[0], block, cells[1], block).mean(axis=(1, 3))  # share of the class in each cell
            expected = (share / share.sum() * truth).sum()
            assert unpack(row["precision"], np.float16)[number] == pytest.approx(expected, abs=2e-3)


def test_the_number_of_threads_is_that_of_the_run_and_given_back(full, monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(execution, "_rows", lambda run: seen.append(torch.get_num_threads()) or [])
    execution.execute(replace(full[0], threads=2 if before == 1 else 1))
    assert seen == [2 if before == 1 else 1] and torch.get_num_threads() == before
