"""What a run does: variants start alike, and its rows hold what an episode-by-episode reading of the network gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ablation_runs import SMALL, rows_without_times, runs

from dpnet_lite.ablation import execution
from dpnet_lite.ablation import runs as runs_module
from dpnet_lite.ablation.masks import edit_masks
from dpnet_lite.ablation.table import unpack, unpack_scores
from dpnet_lite.checkpoints import load_checkpoint, save_checkpoint
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.experiment import TEST_SEED
from dpnet_lite.model.dpnet import DPNet

GOLDEN = {  # mIoU % of the small study by results version, of fold 0 and seed 1 under its two conditions
    1: {"training-free": (33.92, 28.47), "control": (4.95, 7.41), "full": (3.21, 1.63)},
}


@pytest.fixture(scope="module")
def full(reference):
    """A run of the full network and its two rows, whose weights are kept beside the features."""
    run = next(run for run in runs(reference) if run.variant.name == "full")
    return run, execution.execute(run)


def test_the_results_version_is_raised_when_numbers_move(reference):
    rows, found = rows_without_times(reference), {}
    for run in runs(reference):
        if (run.fold, run.seed) == (0, 1):
            found[run.variant.name] = tuple(100 * rows[key]["miou"] for key in run.row_keys)
    for name, expected in GOLDEN[execution.RESULTS_VERSION].items():
        assert found[name] == pytest.approx(expected, abs=0.3), (
            f"numbers moved; if that is meant, raise RESULTS_VERSION in ablation/runs.py and store here: {found}"
        )


def test_the_rows_hold_what_a_reader_needs(reference):
    for row in rows_without_times(reference).values():
        assert {"key", "code", "identity", "fold", "seed", "versions", "machine", "parameters", "scores"} <= row.keys()
        assert unpack_scores(row["scores"]).miou == row["miou"]
        assert len(unpack_scores(row["scores"]).class_index) == SMALL.n_episodes


def test_variants_of_a_pair_see_the_same_episodes(reference):
    rows = [row for row in rows_without_times(reference).values() if "model" in row["identity"]]
    for fold in SMALL.folds:
        for n_shot in (1, 2):
            own = [r for r in rows if r["fold"] == fold and r["identity"]["n_shot"] == n_shot]
            assert len({row["scores"]["episodes_sha256"] for row in own}) == 1
            training = {row["seed"]: row["training_episodes"] for row in own}
            assert len(set(training.values())) == len(SMALL.seeds)
            assert all(row["training_episodes"] == training[row["seed"]] for row in own)


def test_variants_start_with_the_weights_of_the_base_network(full, monkeypatch):
    """They share what they have in common with it, whatever else they are made of."""
    run = full[0]
    torch.manual_seed(run.seed)
    expected = DPNet(run.experiment.model, run.backbone.out_channels, run.backbone.deep_channels).state_dict()
    starts, train = [], execution.train_head

    def watched(*arguments, initial_weights, **options):
        starts.append(initial_weights)
        return train(*arguments, initial_weights=initial_weights, **options)

    monkeypatch.setattr(execution, "train_head", watched)
    rival = {"network": "panet", "auxiliary": "support"}
    for settings in (rival, {"fusion": "single"}):
        execution.execute(replace(run, variant=replace(run.variant, model=settings)))
    assert len(starts) == 2
    for start in starts:
        assert start.keys() == expected.keys()
        assert all(torch.equal(start[name], weights) for name, weights in expected.items())


@pytest.mark.parametrize("damage", ["cut", "facts", "of another run"])
def test_a_damaged_head_or_state_of_the_cache_is_made_again(full, damage):
    run, _ = full
    folder = run.experiment.cache_folder / "ablation"
    key = runs_module.digest(run.training_identity())
    path, state, expected = folder / f"{key}.safetensors", folder / key / "state.bin", execution._trained(run)[0]
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-50])
    elif damage == "facts":
        save_checkpoint(path, load_checkpoint(path)[0], {"what": "DPNet head"})
    else:  # a whole file of the same form, copied here
        tensors, facts = load_checkpoint(path)
        other = facts | {"identity": facts["identity"] | {"fold": 9}}
        save_checkpoint(path, {name: tensor * 0 for name, tensor in tensors.items()}, other)
    state.parent.mkdir()
    state.write_bytes(b"half a state")
    again = execution._trained(run)[0].state_dict()
    assert all(torch.equal(weights, again[name]) for name, weights in expected.state_dict().items())
    assert not state.exists()
    path.write_bytes(whole)  # with the times of its own rows


def test_rows_hold_the_precision_of_every_selection_under_every_condition(full):
    run, rows = full
    data = run.data()
    head, facts = execution._trained(run)
    assert facts["training_seconds"] == rows[0]["training_seconds"]
    assert [len(unpack(row["precision"], np.float16)) for row in rows] == [SMALL.n_episodes] * 2
    for row, condition in zip(rows, run.conditions, strict=True):
        episodes = draw_episodes(
            data.test.dataset,
            data.novel,
            fold=run.fold,
            n_shot=condition.n_shot,
            count=run.n_episodes,
            seed=TEST_SEED,
            repeats=True,
        )
        assert unpack_scores(row["scores"]).episodes_sha256 == episodes.sha256
        for number in (0, 17, 39):
            batch = data.test.batch(
                [episodes[number]], edit_support=lambda m, c=condition: edit_masks(m, edit=c.mask, pixels=c.pixels)
            )
            with torch.no_grad():
                share = head(batch, batch.cells, trace=True).trace.reliable[0].numpy()
            truth = (batch.query_labels[0].numpy() == 1).astype(float)
            (rows_, columns), block = batch.cells, truth.shape[0] // batch.cells[0]
            truth = truth.reshape(rows_, block, columns, block).mean(axis=(1, 3))  # share of the class in each cell
            expected = (share / share.sum() * truth).sum()
            assert unpack(row["precision"], np.float16)[number] == pytest.approx(expected, abs=2e-3)


def test_the_number_of_threads_is_that_of_the_run_and_given_back(full, monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(execution, "_rows", lambda run: seen.append(torch.get_num_threads()) or [])
    execution.execute(replace(full[0], threads=2 if before == 1 else 1))
    assert seen == [2 if before == 1 else 1] and torch.get_num_threads() == before
