"""Which runs of a study count as done, and whose rows a report takes; nothing is trained here."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from ablation_runs import SCENES, SMALL, experiment, runs
from small_runs import write_folder

from dpnet_lite.ablation import jobs
from dpnet_lite.ablation import runs as runs_module
from dpnet_lite.ablation.engines import EngineOptions
from dpnet_lite.ablation.runs import Run, study_runs
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import Table


def fake_rows(planned):
    return [{"key": key, "miou": 0.5} for run in planned for key in run.row_keys]


def names(some):
    return {tuple(run.row_keys) for run in some}


def test_only_what_the_table_lacks_is_run_and_labels_are_those_of_the_study(tmp_path, monkeypatch):
    executed: list[Run] = []

    def run_all(todo, options):
        for number, run in enumerate(todo):
            executed.append(run)
            yield number, fake_rows([run])

    monkeypatch.setattr(jobs, "run_all", run_all)
    planned, table, said = runs(tmp_path), Table(tmp_path / "rows.sqlite"), []
    table.append(fake_rows(planned[:5]))
    with pytest.raises(
        ValueError,
        match=r"5 of 12 runs with device cpu and 1 thread\(s\) are not in .*rows\.sqlite; run the study first",
    ):
        jobs.labelled_rows(planned, table)
    jobs.run_study(planned, table, EngineOptions(jobs=1), said.append)
    assert names(executed) == names(planned) - names(planned[:5])
    # 12 runs, but the untrained variant is the same for both seeds: 2 folds less.
    assert len(executed) == 5 and said[0].startswith("5 of 10 runs to do, the others are in ")
    labelled = jobs.labelled_rows(planned, table)
    assert [(row["variant"], row["condition"], row["fold"], row["seed"]) for row in labelled] == [
        (run.variant.name, condition.name, run.fold, run.seed) for run in planned for condition in run.conditions
    ]


def test_on_photographs_a_study_keeps_its_training_and_its_folds(tmp_path):
    """What is said of the toy world's budget alone is left out there."""
    photos = replace(experiment(tmp_path), data=str(write_folder(tmp_path / "mine")), n_folds=2)
    study = replace(SMALL, folds=(), training={"steps": 7}, toy_training={"steps": 5, "batch_size": 3})
    of_photos, of_toy = (study_runs(study, own, SCENES) for own in (photos, experiment(tmp_path)))
    assert {run.fold for run in of_photos} == {0, 1} and {run.fold for run in of_toy} == {0, 1, 2, 3}
    assert {(run.training.steps, run.training.batch_size) for run in of_photos} == {(7, photos.training.batch_size)}
    assert (
        {(run.training.steps, run.training.batch_size) for run in of_toy}
        == {(7, 3)}
        != {(7, photos.training.batch_size)}
    )
    assert {run.fold for run in study_runs(replace(study, folds=(1,)), photos, SCENES)} == {1}
    with pytest.raises(ValueError, match="study 'small' has fold 9, but there are 2 folds; give 0 to 1"):
        study_runs(replace(study, folds=(0, 9)), photos, SCENES)


def test_runs_of_photographs_that_changed_are_told(tmp_path, monkeypatch):
    """Case 03 for studies: one mask is replaced, and everything counts as not done."""
    folder, said = write_folder(tmp_path / "mine"), []
    planned = study_runs(SMALL, replace(experiment(tmp_path), data=str(folder), folds=(0,)), SCENES)[:3]
    identified = [
        {**row, "identity": run.identity(condition)}
        for run in planned
        for row, condition in zip(fake_rows([run]), run.conditions, strict=True)
    ]
    table = Table(tmp_path / "rows.sqlite")
    table.append(identified[:-2])  # of two runs out of three
    monkeypatch.setattr(jobs, "run_all", lambda todo, options: iter(()))
    shutil.copy(folder / "masks/08.png", folder / "masks/07.png")
    planned = [replace(run) for run in planned]  # planned anew, in the same process
    jobs.run_study(planned, table, EngineOptions(jobs=1), said.append)
    assert said[0] == "3 of 3 runs to do"
    assert said[1].startswith("2 of them are in ") and "for other images or masks only" in said[1]


def test_a_key_holds_what_changes_the_numbers(tmp_path, monkeypatch):
    run = runs(tmp_path)[1]
    backbone = run.backbone
    monkeypatch.setattr(runs_module, "_shared_backbone", lambda *own: backbone)  # there is no GPU
    others = [
        replace(run, fold=1),
        replace(run, seed=9),
        replace(run, threads=2),
        replace(run, n_episodes=41),
        replace(run, scenes=(64, 42)),
        replace(run, experiment=replace(run.experiment, device="cuda")),
        replace(run, experiment=replace(run.experiment, gap=0.25)),
        replace(run, variant=replace(run.variant, model={"channels": 8})),
        replace(run, variant=replace(run.variant, training={"steps": 7})),
        *(replace(run, conditions=(replace(one, n_shot=3), *rest)) for one, *rest in [run.conditions]),
        *(replace(run, conditions=(replace(one, gap=0.75), *rest)) for one, *rest in [run.conditions]),
        *(replace(run, conditions=(one, replace(two, pixels=4))) for one, two in [run.conditions]),
        *(replace(run, conditions=(one, replace(two, mask="eroded"))) for one, two in [run.conditions]),
    ]
    assert len(names([run, *others])) == len(others) + 1
    assert run.row_keys == replace(run, conditions=run.conditions[::-1]).row_keys[::-1]
    same = [
        replace(run, experiment=replace(run.experiment, cache_folder=tmp_path / "elsewhere")),
        replace(run, variant=replace(run.variant, name="other name", what="other words")),
    ]
    assert names(same) == names([run])
    before = names([run])
    monkeypatch.setattr(runs_module, "RESULTS_VERSION", 2)
    assert not names([run]) & before


@pytest.mark.parametrize("name", ["interaction", "selection"])
def test_retired_variants_are_shown_but_not_run(name, tmp_path):
    study = load_study(name)
    retired = {variant.name for variant in study.variants if variant.is_retired}
    assert retired and retired <= {entry.variant for entry in study.comparisons}
    left = study.without_retired()
    assert {run.variant.name for run in study_runs(study, experiment(tmp_path))} == {v.name for v in left.variants}
    assert not retired & ({v.name for v in left.variants} | {c.variant for c in left.comparisons})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"network": "unet"}, "variant 'full': network is 'unet'; choose one of dpnet, panet, ssp"),
        ({"network": "panet"}, "auxiliary is 'query', but the network 'panet' has 'support' or 'none'"),
        ({"network": "ssp", "auxiliary": "support"}, "but the network 'ssp' has 'query' or 'none'"),
    ],
)
def test_a_network_that_cannot_be_built_is_told_before_any_run(settings, words, tmp_path):
    variants = (*SMALL.variants[:2], replace(SMALL.variants[2], model=settings))
    with pytest.raises(ValueError, match=words):
        study_runs(replace(SMALL, variants=variants), experiment(tmp_path), SCENES)


def test_a_run_needs_a_thread(tmp_path):
    with pytest.raises(ValueError, match="threads is 0; give at least 1"):
        study_runs(SMALL, experiment(tmp_path), SCENES, threads=0)
