"""The main job at a tiny size: files, tables recomputed from the JSON, resume, fair rivals."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from PIL import Image
from small_runs import SMALL, folder_options, run, use_few_scenes, write_folder

from dpnet_lite.checkpoints import load_head
from dpnet_lite.cli import options
from dpnet_lite.cli.demo import run_demo
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.experiments import results
from dpnet_lite.experiments.experiment import Experiment
from dpnet_lite.experiments.intervals import mean_interval
from dpnet_lite.experiments.jobs import FULL, METHODS, SUPPORT_ONLY, TRAINING_FREE, FoldResult, support_only
from dpnet_lite.experiments.results import load_result
from dpnet_lite.storage.files import locked


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Experiment:
    """Two folds and two seeds of a small folder."""
    root = tmp_path_factory.mktemp("demo")
    return Experiment(
        data=str(write_folder(root / "mine")),
        model=ModelConfig(channels=8),
        training=TrainingConfig(steps=3, batch_size=2, warmup_steps=1),
        backbone="tiny",
        size=64,
        folds=(0, 2),
        seeds=(0, 1),
        shots=(1, 2),
        n_episodes=10,
        policy="background",
        cache_folder=root / "cache",
    )


@dataclass(frozen=True)
class Run:
    output: Path
    said: list[str]
    results: list[FoldResult]

    def records(self) -> dict[tuple[int, int], dict]:
        found = [json.loads(path.read_text()) for path in sorted(self.output.glob("fold*_seed*.json"))]
        return {(record["fold"], record["seed"]): record for record in found}


@pytest.fixture(scope="module")
def first_run(config, tmp_path_factory) -> Run:
    output, said = tmp_path_factory.mktemp("out"), []
    (output / "kept").write_text("mine")
    os.link(output / "kept", output / "episodes.png")
    return Run(output, said, run_demo(config, output, say=said.append))


def test_it_writes_results_heads_and_pictures(first_run, config):
    runs = {(fold, seed) for fold in (0, 2) for seed in (0, 1)}
    assert set(first_run.records()) == runs
    assert (first_run.output / "kept").read_text() == "mine"  # pictures replace a file, as all else does
    heads = {f"{name}_fold{fold}_seed{seed}" for name in ("dpnet", "support_only") for fold, seed in runs}
    assert {path.stem for path in first_run.output.glob("*.safetensors")} == heads
    for name in ("episodes.png", "learning_curve.png"):
        path = first_run.output / name
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and f"picture: {path}" in first_run.said
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 300 and max(image.size) < 4000
            assert len(np.unique(np.array(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50  # not empty
    assert sum(path.stat().st_size for path in first_run.output.glob("*.png")) < 4_000_000


def test_heads_say_how_they_were_made(first_run, config):
    record = first_run.records()[2, 1]
    for stem, model in (("dpnet", config.model), ("support_only", support_only(config.model))):
        head, facts = load_head(first_run.output / f"{stem}_fold2_seed1.safetensors")
        assert head.config == model
        assert (facts["fold"], facts["seed"], facts["step"], facts["size"]) == (2, 1, 3, 64)
        assert facts["training"] == replace(config.training, seed=1).to_dict()
        assert set(facts["scores"]) == {"1-shot mIoU", "2-shot mIoU"}
        assert set(facts["episodes"]) == {"1", "2"}
        names = record["scores"][0][2]["class_names"]
        assert facts["base_classes"] == [name for index, name in enumerate(names) if index % 4 != 2]


def class_means(scores: dict) -> float:
    """mIoU from the counts of a result file: pixels added up per class, then the mean over classes."""
    pixels: dict[int, list[int]] = {}
    for index, (inside, union, *_) in zip(scores["class_index"], scores["counts"], strict=True):
        total = pixels.setdefault(index, [0, 0])
        total[0], total[1] = total[0] + inside, total[1] + union
    return sum(inside / union for inside, union in pixels.values()) / len(pixels)


def foreground_background(scores: dict) -> float:
    sums = np.array(scores["counts"]).sum(axis=0)
    return (sums[0] / sums[1] + sums[2] / sums[3]) / 2


def table_rows(text: str, head: str) -> list[list[str]]:
    """Cells of the table whose first column is called `head`, without head and rule."""
    block = next(part for part in text.split("\n\n") if part.startswith(f"| {head} "))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d", cell)]


def test_every_number_of_the_tables_comes_from_the_files(first_run):
    text, records = first_run.said[0], first_run.records()
    miou, fb_iou = {}, {}
    for key, record in records.items():
        for method, n_shot, scores in record["scores"]:
            miou[key, method, n_shot] = 100 * class_means(scores)
            fb_iou[key, method, n_shot] = 100 * foreground_background(scores)
    summary = table_rows(text, "method")
    assert [(row[0], row[1]) for row in summary] == [(m, str(n)) for n in (1, 2) for m in METHODS]
    for method, shots, cell, fb_cell in summary:
        value, low, high = numbers(cell)
        assert value == pytest.approx(np.mean([miou[key, method, int(shots)] for key in records]), abs=0.0501)
        assert numbers(fb_cell)[0] == pytest.approx(
            np.mean([fb_iou[key, method, int(shots)] for key in records]), abs=0.0501
        )
        runs = [result.scores[method, int(shots)] for result in first_run.results]
        assert [low, high] == pytest.approx(
            [100 * x for x in mean_interval(runs, "miou", resample_runs=True)], abs=0.0501
        )
    differences = table_rows(text, "mIoU of DPNet minus that of")
    assert [(row[0], row[1]) for row in differences] == [(m, str(n)) for n in (1, 2) for m in METHODS[:2]]
    for rival, shots, cell in differences:
        value, low, high = numbers(cell)
        expected = np.mean([miou[key, FULL, int(shots)] - miou[key, rival, int(shots)] for key in records])
        assert value == pytest.approx(expected, abs=0.0501) and low <= value <= high and cell[0] in "+-"


def test_the_table_of_folds_is_a_mean_over_seeds(first_run):
    text = first_run.said[0].split("\n\n")[-1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert rows[0] == ["method", "shots", "fold 0", "fold 2"] and len(rows) == 2 + 6
    for method, shots, *cells in rows[2:]:
        for fold, cell in zip((0, 2), cells, strict=True):
            scores = [
                class_means(s)
                for seed in (0, 1)
                for m, n_shot, s in first_run.records()[fold, seed]["scores"]
                if (m, str(n_shot)) == (method, shots)
            ]
            assert numbers(cell)[0] == pytest.approx(100 * np.mean(scores), abs=0.0501)


def test_all_methods_are_scored_on_the_same_episodes_of_novel_classes(first_run):
    for (fold, _), record in first_run.records().items():
        novel = {fold, fold + 4}
        for n_shot, episodes in record["episodes"].items():
            assert {e["class_index"] for e in episodes["episodes"]} <= novel
            assert all(
                len(e["support"]) == int(n_shot) and e["query"] not in e["support"] for e in episodes["episodes"]
            )
            hashes = {s["episodes_sha256"] for _, n, s in record["scores"] if str(n) == n_shot}
            assert len(hashes) == 1
            assert hashes.pop()[:12] in first_run.said[0] or fold != 0
        assert len(record["scores"]) == 6


def test_the_test_episodes_do_not_depend_on_the_seed(first_run):
    records = first_run.records()
    assert records[0, 0]["episodes"] == records[0, 1]["episodes"] != records[2, 0]["episodes"]
    free = [[s for m, _, s in records[0, seed]["scores"] if m == TRAINING_FREE] for seed in (0, 1)]
    assert free[0] == free[1]  # a baseline without training cannot depend on it either
    trained = [[s for m, _, s in records[0, seed]["scores"] if m == FULL] for seed in (0, 1)]
    assert trained[0] != trained[1]


def test_a_second_run_says_the_same(first_run, config, tmp_path):
    said = []
    again = replace(config, cache_folder=tmp_path / "cache", folds=(0, 2), seeds=(0, 1))
    run_demo(again, tmp_path / "out", say=said.append, pictures=False)
    assert said == first_run.said[:1]


def test_resume_skips_what_the_same_settings_have_done(first_run, config, tmp_path, monkeypatch):
    output, calls, said = tmp_path / "out", [], []
    original = results.run_fold

    def spy(data, model, training, **settings):
        calls.append((data.fold, training.seed))
        return original(data, model, training, **settings)

    monkeypatch.setattr(results, "run_fold", spy)
    output.mkdir()
    for path in first_run.output.glob("*fold0_seed*.*"):
        (output / path.name).write_bytes(path.read_bytes())
    found = run_demo(config, output, say=said.append, resume=True, pictures=False)
    assert calls == [(2, 0), (2, 1)] and said == first_run.said[:1]
    assert [(r.fold, r.seed) for r in found] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    calls.clear()
    run_demo(config, output, say=said.append, resume=True)  # nothing to do, nothing to draw
    assert calls == [] and said[1] == said[0] and len(said) == 2
    one = replace(config, folds=(0,), seeds=(1,))
    for changed in (
        replace(one, n_episodes=5),
        replace(one, model=replace(config.model, pseudo_prototype=True, channels=12)),
        replace(one, training=replace(config.training, learning_rate=1e-3)),
        replace(one, policy="ignore"),
        replace(one, shots=(1,)),
    ):
        run_demo(changed, output, say=said.append, resume=True, pictures=False)
        assert calls == [(0, 1)]
        calls.clear()
    run_demo(one, output, say=said.append, pictures=False)
    calls.clear()
    before = (output / "dpnet_fold0_seed1.safetensors").read_bytes()
    for mistyped, told in (
        (replace(one, n_episodes=7), f"n_episodes {one.n_episodes}, not 7"),
        (replace(one, precision="bf16"), "precision 'fp32', not 'bf16'"),
        (replace(one, training=replace(one.training, steps=9)), f"training.steps {one.training.steps}, not 9"),
    ):
        with pytest.raises(
            ValueError, match=rf"fold0_seed1\.json was made with {told}; give what it was made with, --ov"
        ):
            run_demo(mistyped, output, say=said.append, resume=True, may_replace=False, pictures=False)
    assert calls == [] and (output / "dpnet_fold0_seed1.safetensors").read_bytes() == before
    run_demo(one, output, say=said.append, pictures=False)  # without resume everything is done again
    assert calls == [(0, 1)]


def test_results_of_changed_photographs_are_not_taken_over(config, tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "mine")
    small = replace(config, data=str(folder), folds=(0,), seeds=(0,), shots=(1,), cache_folder=tmp_path / "cache")
    with Image.open(folder / "masks/07.png") as mask:
        labels = np.array(mask)

    def write_mask(labels):
        buffer = io.BytesIO()
        Image.fromarray(labels).save(buffer, format="png")
        (folder / "masks/07.png").write_bytes(buffer.getvalue().ljust(9000, b"\0"))  # readers stop before the zeros

    write_mask(labels)
    calls = []
    original = results.run_fold
    monkeypatch.setattr(results, "run_fold", lambda *a, **k: calls.append(1) or original(*a, **k))
    for _ in range(2):
        run_demo(small, tmp_path / "out", say=lambda text: None, resume=True, pictures=False)
    assert len(calls) == 1
    write_mask(labels[::-1])  # case 03: corrected in place, as many bytes
    said: list[str] = []
    found = run_demo(small, tmp_path / "out", say=said.append, resume=True, pictures=False)
    assert len(calls) == 2 and said[0].startswith("fold 0, seed 0 is run again: ")
    assert said[0].endswith("fold0_seed0.json was made of other photographs, masks or settings")
    anew = run_demo(small, tmp_path / "anew", say=lambda text: None, pictures=False)
    assert anew[0].scores[FULL, 1].to_dict() == found[0].scores[FULL, 1].to_dict()


def test_a_result_file_of_something_else_is_not_read(first_run, tmp_path):
    path = first_run.output / "fold0_seed0.json"
    identity = first_run.records()[0, 0]["identity"]
    read = load_result(path, identity)
    assert read is not None and read.scores[FULL, 1].miou == first_run.results[0].scores[FULL, 1].miou
    assert load_result(path, identity | {"n_episodes": 8}) is None
    assert load_result(tmp_path / "none.json", identity) is None


HEADS = [f"{name}_fold0_seed0.{end}" for name in ("support_only", "dpnet") for end in ("safetensors", "json")]


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("fold0_seed0.json", {}, "it was changed since it was written, or an older version wrote it"),
        ("fold0_seed0.json", {"fold": False}, "it was changed since"),
        ("fold0_seed0.json", {"sha256": None}, "it was changed since"),
        ("fold0_seed0.json", "[" * 10**5, "maximum recursion depth exceeded"),
        (HEADS[0], None, f"{HEADS[0]} is missing or damaged"),
        (HEADS[2], "cut", f"{HEADS[2]} is missing or damaged"),
        (HEADS[3], None, f"{HEADS[3]} is missing or damaged"),
    ],
)
def test_what_is_not_as_it_was_written_is_made_again(first_run, config, tmp_path, monkeypatch, name, damage, reason):
    """Counts written by hand were taken over, and a head that was gone was not missed."""
    files = ["fold0_seed0.json", *HEADS]
    for file in files:
        (tmp_path / file).write_bytes((first_run.output / file).read_bytes())
    path, calls, said, original = tmp_path / name, [], [], results.run_fold
    if isinstance(damage, dict):
        record = json.loads(path.read_text())
        counts = record["scores"][0][2]["counts"]  # more of the object is found, less is left: an episode could give it
        counts[0] = [counts[0][0] + 1, *counts[0][1:3], counts[0][3] + 1] if not damage else counts[0]
        path.write_text(json.dumps(record | damage))
    elif damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    monkeypatch.setattr(results, "run_fold", lambda *a, **how: calls.append(a) or original(*a, **how))
    for _ in range(2):  # then all is whole again
        one = replace(config, folds=(0,), seeds=(0,))
        (found,) = run_demo(one, tmp_path, say=said.append, resume=True, pictures=False)
        assert {key: s.to_dict() for key, s in found.scores.items()} == {
            key: s.to_dict() for key, s in first_run.results[0].scores.items()
        }
    assert len(calls) == 1 and said[1] == said[2] and len(said) == 3
    assert said[0].startswith(f"fold 0, seed 0 is run again: {tmp_path / 'fold0_seed0.json'} is damaged ({reason}")
    for file in files:
        assert (tmp_path / file).read_bytes() == (first_run.output / file).read_bytes()


def test_a_damaged_result_file_is_told(first_run, tmp_path):
    (whole, *_), path = first_run.records().values(), tmp_path / "fold0_seed0.json"
    scores = whole["scores"][0]
    changes = [{"fold": None}, {"scores": [[*scores[:2], {}]]}, {"episodes": []}, {"episodes": {"1": {}}}]
    # All of these could be read, and were taken over: another score, another seed, images of other episodes.
    changes += [{"fold": 2}, {"seed": 3}, {"scores": whole["scores"][1:]}]
    changes += [{"scores": [["DPN", *scores[1:]], *whole["scores"][1:]]}]
    moved = scores[2] | {"class_index": [4 - scores[2]["class_index"][0], *scores[2]["class_index"][1:]]}
    changes += [{"scores": [[*scores[:2], moved], *whole["scores"][1:]]}]
    for n_shot, episodes in whole["episodes"].items():
        changes += [{"episodes": whole["episodes"] | {n_shot: episodes | {"episodes": episodes["episodes"][::-1]}}}]
    without_fold = {key: value for key, value in whole.items() if key != "fold"}
    texts = [json.dumps(whole)[:-9], "[]", *map(json.dumps, [without_fold, *(whole | change for change in changes)])]
    for text in texts:
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"^{path} is damaged \(.*\); --resume makes it anew$"):
            load_result(path, whole["identity"])


HOLDS = """
import sys
from pathlib import Path
from dpnet_lite.storage.files import locked
with locked(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_one_process_at_a_time_writes_to_one_place(config, tmp_path, caplog, capsys, monkeypatch):
    """Two trainings into one file both ended with status 0: weights of one, a mixture as the log."""
    head, scores, lists = (tmp_path / name for name in ("head.safetensors", "scores.json", "lists"))
    train = ["train", *folder_options(Path(config.data), config.cache_folder), *SMALL, "--novel", "background"]
    writers = [
        (head, train),
        (head, ["pretrain", "--steps", 1]),
        (scores, ["evaluate", "--checkpoint", head]),
        (lists, ["data", "episodes", "fss1000", "--root", config.data]),
    ]
    lists.mkdir()
    locks = [tmp_path / ".lock", config.cache_folder / "busy", lists / ".lock"]
    locks += [tmp_path / f".{path.name}.lock" for path in (head, scores)]
    with ExitStack() as stack:
        start = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        others = [stack.enter_context(start([sys.executable, "-c", HOLDS, lock])) for lock in locks]
        assert [other.stdout.readline() for other in others] == ["held\n"] * 5
        for path, command in writers:
            assert run(*command, "--out", path) == 2
            told = f"another process writes to {path}; wait for it, or name another place with --out"
            assert told in capsys.readouterr().err
        with pytest.raises(ValueError, match=f"^another process writes to {tmp_path}; wait for it, or name another"):
            run_demo(config, tmp_path, say=print)
        Timer(0.3, others[1].kill).start()  # a process that is killed lets the next one in
        with locked(locks[1], "busy"):
            assert caplog.messages == ["busy; waiting for it"]
        for other in others:
            other.kill()
    assert run(*train, "--out", head) == 0
    # What another process has made since the command looked first, as while it waited for the features.
    monkeypatch.setattr(options, "check_output", lambda path, **how: None)
    for path in (head, scores):
        path.touch()
    content = head.read_bytes()
    for path, command in writers[:3]:
        capsys.readouterr()
        assert run(*command, "--out", path) == 2
        assert f"{path} is there already; give another place with --out, or replace" in capsys.readouterr().err
    assert head.read_bytes() == content and scores.read_bytes() == b""


def test_no_path_of_this_machine_is_in_the_results(first_run, config):
    for path in first_run.output.glob("*.json"):
        assert str(Path(config.data).parent) not in path.read_text()


def test_the_toy_demo_as_it_is_typed(tmp_path, capsys, monkeypatch):
    use_few_scenes(monkeypatch)
    texts = []
    for turn in ("a", "b"):
        assert run("demo", *SMALL, "--episodes", 3, "--shots", 1, "--out", tmp_path / turn) == 0
        shown = capsys.readouterr()
        texts.append(shown.out.replace(str(tmp_path / turn), ""))
        assert "training DPNet" in shown.err and "left" in shown.err  # the bar names the step and the time
    assert run("demo", *SMALL, "--episodes", 3, "--shots", 1, "--out", tmp_path / "a") == 2
    there = f"{tmp_path / 'a' / 'dpnet_fold0_seed0.json'} is there already; give --resume, --overwrite, or another"
    assert there in capsys.readouterr().err
    for wish in ("--resume", "--overwrite"):
        assert run("demo", *SMALL, "--episodes", 3, "--shots", 1, "--out", tmp_path / "a", wish) == 0
        assert capsys.readouterr().out.startswith(texts[0].partition("\npicture")[0])
    for command in ("demo", "train"):
        with pytest.raises(SystemExit, match="2"):
            run(command, "--resume", "--overwrite")
        assert "argument --overwrite: not allowed with argument --resume" in capsys.readouterr().err
    assert texts[0] == texts[1]
    assert [row[0] for row in table_rows(texts[0], "method")] == [TRAINING_FREE, SUPPORT_ONLY, FULL]
    assert (tmp_path / "a/episodes.png").exists()  # with fewer episodes than the picture has rows
