"""Which runs of a study count as done, and whose rows a report takes; nothing is trained here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ablation_runs import SCENES, SMALL, config, runs

from dpnet_lite.ablation import jobs
from dpnet_lite.ablation.banks import config_backbone
from dpnet_lite.ablation.code_hash import code_hash
from dpnet_lite.ablation.engines import EngineOptions
from dpnet_lite.ablation.runs import Run
from dpnet_lite.ablation.table import Table


def fake_rows(planned, code):
    keys = [key for run in planned for key in Run.keys(run)]
    return [{"key": key, "code": code, "miou": 0.5} for key in keys]


def names(some):
    return {tuple(run.keys()) for run in some}


@pytest.fixture
def executed(monkeypatch):
    """The runs that an engine would get; they give rows of the present code."""
    seen: list[Run] = []

    def run_all(todo, options):
        for number, run in enumerate(todo):
            seen.append(run)
            yield number, fake_rows([run], code_hash())

    monkeypatch.setattr(jobs, "run_all", run_all)
    return seen


def done(planned, table, *other_codes):
    said: list[str] = []
    jobs.run_study(planned, table, EngineOptions(jobs=1), said.append, other_codes)
    return said[0]


def test_rows_of_another_code_count_only_where_it_is_named(tmp_path, executed):
    planned, table = runs(tmp_path), Table(tmp_path / "rows.jsonl")
    table.append(fake_rows(planned[:5], "older"))
    left = names(planned) - names(planned[:5])
    assert len(left) == 5  # the untrained variant is the same for both seeds
    assert done(planned, table, "older").startswith("5 of 10 runs to do, the others are in ")  # 12, of which 4 are 2
    assert names(executed) == left
    labelled = jobs.labelled_rows(planned, table, ["older"])
    assert {row["code"] for row in labelled} == {"older", code_hash()}
    with pytest.raises(
        ValueError,
        match=r"7 of 12 runs with device cpu and 1 thread\(s\) are not in .*rows\.jsonl; run the study first",
    ):
        jobs.labelled_rows(planned, table)
    executed.clear()
    done(planned, table)
    assert names(executed) == names(planned[:5])
    assert {row["code"] for row in jobs.labelled_rows(planned, table, ["older"])} == {code_hash()}


def test_rows_of_a_code_that_has_all_are_shown_though_nobody_named_it(tmp_path):
    planned, table = runs(tmp_path), Table(tmp_path / "rows.jsonl")
    table.append(fake_rows(planned, "oldest") + fake_rows(planned, "older") + fake_rows(planned[:1], "newer"))
    labelled = jobs.labelled_rows(planned, table)
    assert {row["code"] for row in labelled} == {"older"}
    assert [(row["variant"], row["condition"], row["fold"], row["seed"]) for row in labelled] == [
        (run.variant.name, condition.name, run.fold, run.seed) for run in planned for condition in run.conditions
    ]


def test_a_key_holds_what_changes_the_numbers(tmp_path, monkeypatch):
    run = runs(tmp_path)[1]
    backbone = config_backbone(run.config)
    monkeypatch.setattr("dpnet_lite.ablation.runs.config_backbone", lambda config: backbone)  # there is no GPU
    others = [
        replace(run, fold=1),
        replace(run, seed=9),
        replace(run, threads=2),
        replace(run, n_episodes=41),
        replace(run, scenes=(64, 42)),
        replace(run, config=replace(run.config, device="cuda")),
        replace(run, config=replace(run.config, gap=0.25)),
        replace(run, variant=replace(run.variant, model={"channels": 8})),
        replace(run, variant=replace(run.variant, training={"steps": 7})),
        *(replace(run, conditions=(replace(one, n_shot=3), *rest)) for one, *rest in [run.conditions]),
        *(replace(run, conditions=(replace(one, gap=0.75), *rest)) for one, *rest in [run.conditions]),
        *(replace(run, conditions=(one, replace(two, pixels=4))) for one, two in [run.conditions]),
        *(replace(run, conditions=(one, replace(two, mask="eroded"))) for one, two in [run.conditions]),
    ]
    assert len(names([run, *others])) == len(others) + 1
    assert run.keys() == replace(run, conditions=run.conditions[::-1]).keys()[::-1]
    same = [
        replace(run, config=replace(run.config, cache_folder=tmp_path / "elsewhere")),
        replace(run, variant=replace(run.variant, name="other name", what="other words")),
    ]
    assert names(same) == names([run])


def test_a_run_needs_a_thread(tmp_path):
    with pytest.raises(ValueError, match="threads is 0; give at least 1"):
        jobs.study_runs(SMALL, config(tmp_path), SCENES, threads=0)
