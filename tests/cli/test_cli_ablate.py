"""`dpnet-lite ablate` in process at a tiny size: on the toy world, on a folder, its report, its errors."""

from __future__ import annotations

import re

import pytest
from small_runs import folder_options, run, write_folder

from dpnet_lite.ablation.table import Table, read_rows
from dpnet_lite.cli import ablate as cli_ablate

STUDY = """
title = "Mine"
question = "Does it help?"
folds = [1]
seeds = [3, 4]
n_episodes = 30
training = { steps = 300 }
[[condition]]
name = "1-shot"
[[condition]]
name = "2-shot"
n_shot = 2
[[variant]]
name = "control"
model = { pseudo_prototype = false, channels = 8 }
[[variant]]
name = "full"
model = { channels = 8 }
[[comparison]]
name = "P_q"
variant = "full"
control = "control"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "mine.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    monkeypatch.setattr(cli_ablate, "QUICK_SCENES", (62, 42))


def options(folder, *more):
    return [
        "--table",
        folder / "rows.sqlite",
        "--out",
        folder / "report",
        "--cache",
        folder / "cache",
        "--jobs",
        1,
        *more,
    ]


def test_a_study_on_the_toy_world_and_its_report_again(study, tmp_path, capsys):
    changes = ["--quick", "--steps", 3, "--seeds", 7, 8]
    assert run("ablate", study, *changes, *options(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "4 of 4 runs to do" in out and re.search(r"\| P_q +\| 2-shot +\| full against control +\|", out)
    assert "says nothing about the modules" in out
    report = (tmp_path / "report" / "report.md").read_text()
    assert "3 steps of 8 episodes" in report and "seeds 7, 8" in report
    assert f"- command: `dpnet-lite ablate {study} --quick --steps 3 --seeds 7 8 --table" in report
    rows = list(read_rows(tmp_path / "report" / "rows.jsonl.xz"))
    assert {(r["variant"], r["condition"], r["fold"], r["seed"]) for r in rows} == {
        (v, c, 1, s) for v in ("control", "full") for c in ("1-shot", "2-shot") for s in (7, 8)
    }
    assert len(Table(tmp_path / "rows.sqlite").all_rows()) == 8

    (tmp_path / "report" / "report.md").unlink()
    assert run("ablate", study, *changes, "--report", *options(tmp_path)) == 0
    assert (tmp_path / "report" / "report.md").read_text() == report
    assert "runs to do" not in capsys.readouterr().out

    assert run("ablate", study, "--quick", "--steps", 4, "--seeds", 7, 8, "--report", *options(tmp_path)) == 2
    assert "4 of 4 runs with device cpu and 1 thread(s) are not in" in capsys.readouterr().err


def test_a_study_on_a_folder_takes_the_budget_of_photographs(study, tmp_path, capsys):
    folder = folder_options(write_folder(tmp_path / "pictures"), tmp_path / "cache")
    more = ["--steps", 2, "--seeds", 1, "--fold", "all", "--n-folds", 2]
    assert run("ablate", study, *options(tmp_path), *folder, *more) == 0
    row, *rest = Table(tmp_path / "rows.sqlite").all_rows()
    assert {row["fold"], *(other["fold"] for other in rest)} == {0, 1}
    assert row["identity"]["training"]["overlap_weight"] == 20.0
    assert row["identity"]["training"]["steps"] == 2


def test_the_list_names_every_shipped_study(capsys):
    assert run("ablate", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 and lines[4].startswith("modules")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a study: aux, gap"),
        (["modul"], "there is no study 'modul'; shipped are"),
        (["modules", "--address", "auto"], "--address and --gpus-per-run are for --engine ray"),
        (["modules", "--seeds", 1, 1], "seeds [1, 1]; give each once"),
        (["modules", "--fold", 9], "--fold is 9, but there are 4 folds"),
        (["modules", "--gap", 3], "gap is 3.0"),
    ],
)
def test_mistakes_take_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("ablate", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_gap_is_no_dial_of_photographs(tmp_path, capsys):
    folder = folder_options(write_folder(tmp_path / "pictures"), tmp_path / "cache")
    assert run("ablate", "gap", *folder) == 2
    assert "sets the gap, a dial of the toy world" in capsys.readouterr().err
