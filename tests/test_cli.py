"""The command line and the main job at a tiny size: results, pictures, resume, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpnet_lite import cli, comparison, demo
from dpnet_lite.checkpoints import load_checkpoint
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.heads import load_head
from dpnet_lite.model.backbone import build_backbone

SMALL = ["--steps", "4", "--model", "channels=8", "--training", "batch_size=2", "--threads", "1"]


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    """Few scenes, and no global side effect of --threads."""
    monkeypatch.setattr(
        comparison.toy_fold, "__kwdefaults__", comparison.toy_fold.__kwdefaults__ | {"n_train": 130, "n_test": 45}
    )
    monkeypatch.setattr(cli.torch, "set_num_threads", lambda n: None)


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Toy scenes as somebody's own folder of eight classes."""
    root = tmp_path_factory.mktemp("mine")
    for name in ("images", "masks"):
        (root / name).mkdir()
    world = ToyWorld(48, seed=3, targets=range(8), others=range(8))
    (root / "classes.txt").write_text("\n".join(world.class_names[:8]) + "\n")
    for number in range(48):
        image, labels = world[number]
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / f"images/{number:02}.png")
        Image.fromarray(labels.numpy()).save(root / f"masks/{number:02}.png")
    return root


def test_demo_writes_results_heads_and_pictures_and_repeats_itself(tmp_path, capsys):
    texts = []
    for turn in ("a", "b"):
        assert run("demo", *SMALL, "--episodes", 12, "--shots", 1, 2, "--out", tmp_path / turn) == 0
        texts.append(capsys.readouterr().out.replace(f"{tmp_path}/{turn}", ""))
    assert texts[0] == texts[1]
    record = json.loads((tmp_path / "a/fold0_seed0.json").read_text())
    for method, n_shot, scores in record["scores"]:
        counts, classes = np.array(scores["counts"]), np.array(scores["class_index"])
        ious = [counts[classes == c, 0].sum() / counts[classes == c, 1].sum() for c in np.unique(classes)]
        rows = [line for line in texts[0].splitlines() if line.startswith(f"| {method} ") and "FB" not in line]
        assert any(f"| {n_shot} " in row and f"| {100 * np.mean(ious):.1f} [" in row for row in rows), (method, n_shot)
    for picture in ("episodes.png", "learning_curve.png"):
        with Image.open(tmp_path / "a" / picture) as image:
            assert min(image.size) > 300
    full, _ = load_head(tmp_path / "a/dpnet_fold0_seed0.safetensors")
    rival, _ = load_head(tmp_path / "a/support_only_fold0_seed0.safetensors")
    assert sum(p.numel() for p in full.parameters()) == sum(p.numel() for p in rival.parameters())


def test_resume_skips_what_the_same_settings_have_done(tmp_path, monkeypatch, capsys):
    assert run("demo", *SMALL, "--episodes", 8, "--shots", 1, "--out", tmp_path) == 0
    first = capsys.readouterr().out
    calls = []
    original = demo.run_fold
    monkeypatch.setattr(demo, "run_fold", lambda *a, **k: calls.append(1) or original(*a, **k))
    assert run("demo", *SMALL, "--episodes", 8, "--shots", 1, "--out", tmp_path, "--resume") == 0
    assert not calls and capsys.readouterr().out.splitlines()[:9] == first.splitlines()[:9]
    assert run("demo", *SMALL, "--episodes", 9, "--shots", 1, "--out", tmp_path, "--resume") == 0
    assert calls == [1]


def test_train_evaluate_predict_info_on_a_folder(tmp_path, folder, capsys):
    head = tmp_path / "head.safetensors"
    data = ["--data", f"folder:{folder}", "--backbone", "tiny", "--size", 64, "--cache", tmp_path / "cache"]
    assert run("train", *data, *SMALL, "--novel", "ignore", "--fold", 1, "--out", head) == 0
    assert run("evaluate", *data, "--checkpoint", head, "--fold", 1, "--shots", 1, "--episodes", 10) == 0
    assert "| DPNet " in capsys.readouterr().out
    pairs = [folder / "images/00.png", folder / "masks/00.png"]
    masks = tmp_path / "masks"
    assert (
        run("predict", "--checkpoint", head, "--out", masks, "--support", *pairs, "--", folder / "images/08.png") == 0
    )
    with Image.open(masks / "08.png") as mask:
        assert mask.size == (96, 96) and set(np.unique(np.array(mask))) <= {0, 255}
    capsys.readouterr()
    assert run("info", head) == 0
    assert '"fold": 1' in capsys.readouterr().out
    assert run("evaluate", *data, "--checkpoint", head, "--fold", 2) == 2
    assert "give --fold 1" in capsys.readouterr().err


def test_a_stopped_training_is_resumed(tmp_path, capsys):
    head = tmp_path / "head.safetensors"
    assert run("train", *SMALL, "--out", head) == 0
    assert run("train", *SMALL, "--out", head, "--resume") == 0  # already at its end: same weights again
    assert run("train", *SMALL, "--seed", 1, "--out", head, "--resume") == 2
    assert "resume with the same settings" in capsys.readouterr().err


def test_demo_on_a_folder_with_extra_base_classes(tmp_path, folder, capsys):
    status = run(
        "demo", "--data", f"folder:{folder}", "--extra-base", f"folder:{folder}", "--backbone", "tiny", "--size", 64,
        "--novel", "background", "--cache", tmp_path / "cache", *SMALL, "--episodes", 6, "--shots", 1, "--fold", 0,
        "--original-size", "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 0, capsys.readouterr().err
    assert (tmp_path / "out/episodes.png").exists()


def test_pretrain_makes_the_same_loadable_backbone_twice(tmp_path, monkeypatch):
    from dpnet_lite import pretraining

    drawn = []
    original = pretraining.ToyWorld

    def spy(*arguments, **settings):
        drawn.append(settings["catalogue"])
        return original(*arguments, **settings)

    monkeypatch.setattr(pretraining, "ToyWorld", spy)
    monkeypatch.setattr(pretraining, "HELD_OUT_SCENES", 10)
    for name in ("a", "b"):
        assert run("pretrain", "--steps", 2, "--scenes", 40, "--out", tmp_path / f"{name}.safetensors") == 0
    assert set(drawn) == {"auxiliary"}
    backbones = [build_backbone("tiny", tmp_path / f"{name}.safetensors") for name in ("a", "b")]
    assert backbones[0].fingerprint == backbones[1].fingerprint != build_backbone("tiny").fingerprint


def test_the_shipped_backbone_says_how_it_was_made():
    path = Path(cli.__file__).parent / "weights/tiny_backbone.safetensors"
    assert path.stat().st_size <= 2_000_000
    metadata = load_checkpoint(path)[1]
    assert {"pretraining", "score", "versions"} <= metadata.keys()
    assert metadata["pretraining"]["seed"] == 0 and 0.5 < metadata["score"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--model", "selektion=soft"], "'selektion=soft' is no setting"),
        (["demo", "--model", "selection=best"], "selection is 'best'; choose one of"),
        (["demo", "--model", "channels=many"], "'channels=many' does not fit; the value now is 64"),
        (["demo", "--gap", "1.5"], "gap is 1.5"),
        (["demo", "--backbone", "vgg16"], "need --data folder:PATH"),
        (["demo", "--device", "tpu"], "tpu"),
        (["predict", "x.png", "--checkpoint", "none.safetensors", "--support", "a.png"], "give pairs"),
        (["predict", "x.png", "--checkpoint", "none.safetensors", "--support", "a.png", "b.png"], "none.safetensors"),
        (["info", "none.safetensors"], "none.safetensors"),
        (["train", "--device", "cuda", "--steps", "1"], "--device cpu"),
    ],
)
def test_errors_take_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err.rstrip("\n").split("\r")[-1]
    assert error.startswith("dpnet-lite: error: ") and message in error and "\n" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--data", "folder:none"], "no folder none"),
        (["demo", "--data", "coco"], "give toy or folder:PATH"),
        (["demo", "--fold", "7"], "give 0, 1, 2, 3 or all"),
    ],
)
def test_wrong_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_damaged_checkpoints_are_refused(tmp_path, capsys):
    path = Path(cli.__file__).parent / "weights/tiny_backbone.safetensors"
    damaged = tmp_path / "tiny_backbone.safetensors"
    damaged.write_bytes(path.read_bytes()[:-100])
    damaged.with_suffix(".json").write_bytes(path.with_suffix(".json").read_bytes())
    assert run("info", damaged) == 2
    assert str(damaged) in capsys.readouterr().err
    assert run("--debug", "info", damaged) == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_module_runs_as_a_program():
    result = subprocess.run([sys.executable, "-m", "dpnet_lite", "--help"], capture_output=True, text=True, check=True)
    assert "examples:" in result.stdout and "dpnet-lite demo" in result.stdout
