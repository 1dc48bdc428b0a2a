"""The command line in process at a tiny size: every command, exit statuses, errors in one line with a remedy."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from core_fixtures import plain_weights
from PIL import Image
from places import ROOT
from small_runs import SMALL, folder_options, run, use_few_scenes, write_folder, write_one_class_masks

import dpnet_lite
from dpnet_lite import __version__, checkpoints
from dpnet_lite.checkpoints import load_checkpoint, load_head, save_checkpoint, shipped_head
from dpnet_lite.cli import info, options
from dpnet_lite.cli.main import COMMANDS, build_parser
from dpnet_lite.config import ModelConfig
from dpnet_lite.datasets import OBJECTS_FOLDER
from dpnet_lite.episodes import EpisodeList
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import mean_interval, percent
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.experiments.results import read_scores
from dpnet_lite.training import Trainer

TINY = Path(dpnet_lite.__file__).parent / "weights/tiny_backbone.safetensors"
HEAD, NONE = str(shipped_head(0)), "none.safetensors"
PHOTOGRAPH = str(OBJECTS_FOLDER / "images" / "dog3_00.webp")


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    use_few_scenes(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Toy scenes as somebody's own folder of eight classes."""
    root = write_folder(tmp_path_factory.mktemp("mine") / "photographs")
    write_one_class_masks(root, 0)
    return root


@pytest.fixture(scope="module")
def data(folder) -> list[object]:
    return folder_options(folder, folder.parent / "cache")


@pytest.fixture(scope="module")
def head(folder, data) -> Path:
    """A head trained on the base classes of fold 1 of that folder."""
    path = folder.parent / "head.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        use_few_scenes(patch)
        assert run("train", *data, *SMALL, "--novel", "ignore", "--fold", 1, "--seed", 4, "--out", path) == 0
    return path


def error_line(capsys) -> str:
    """The one line that an error takes; progress bars may stand before it."""
    text = capsys.readouterr().err
    line = text.rstrip("\n").split("\n")[-1].split("\r")[-1]
    assert text.count("dpnet-lite: error: ") == 1 and "Traceback" not in text, text
    assert line.startswith("dpnet-lite: error: "), text
    return line.removeprefix("dpnet-lite: error: ")


def test_train_saves_a_head_that_tells_its_making(head, folder):
    loaded, facts = load_head(head)
    assert loaded.config.channels == 8
    assert (facts["fold"], facts["seed"], facts["step"], facts["size"]) == (1, 4, 4, 64)
    assert facts["training"]["seed"] == 4 and facts["training"]["batch_size"] == 2
    names = (folder / "classes.txt").read_text().split("\n")[:8]
    assert facts["base_classes"] == [name for index, name in enumerate(names) if index % 4 != 1]
    assert re.fullmatch("[0-9a-f]{64}", facts["training_episodes"]) and re.fullmatch("[0-9a-f]{64}", facts["dataset"])
    assert {"state.bin", "log.jsonl"} <= {path.name for path in head.with_suffix("").iterdir()}


def test_training_goes_on_from_trained_weights_and_remembers_their_classes(head, folder, data, tmp_path, capsys):
    """A step at hardly any rate leaves the weights where they were; fold 0's classes were the head's base classes."""
    still = ["--training", "learning_rate=1e-8", "weight_decay=0", "warmup_steps=0", "batch_size=2", "--steps", 1]
    options = ["train", *data[:2], *data[6:], "--fold", 0, "--from", head]
    assert run(*options, *still, "--out", tmp_path / "on.safetensors") == 0, capsys.readouterr().err
    begun, on = load_head(head), load_head(tmp_path / "on.safetensors")
    assert f"{head} was trained on " in (told := capsys.readouterr().out)
    assert ", novel in fold 0: what begins with it cannot be scored on this fold" in told
    assert on[0].config == begun[0].config and on[1]["size"] == 64 and on[1]["continued_from"] == head.name
    for name, weight in begun[0].state_dict().items():
        torch.testing.assert_close(on[0].state_dict()[name], weight, rtol=0, atol=1e-6)
    assert set(on[1]["base_classes"]) == set((folder / "classes.txt").read_text().split("\n")[:8])  # of either training
    scored = ["evaluate", *data[:2], *data[6:], "--checkpoint", tmp_path / "on.safetensors", "--episodes", 4]
    assert run(*scored) == 2
    assert error_line(capsys).endswith("choose a fold whose novel classes it never saw")
    for wrong, complaint in (
        (["--model", "channels=4"], "--model channels=4 would change the network of"),
        (["--size", 32], f"size is 32, but {head} was trained with 64; leave out --size"),
        (["--backbone", "vgg16"], f"backbone is vgg16, but {head} was trained with tiny; leave out --backbone"),
        (["--precision", "bf16"], f"precision is bf16, but {head} was trained with fp32"),
    ):
        assert run(*options, *wrong, "--out", tmp_path / "none.safetensors") == 2
        assert complaint in error_line(capsys)
    assert run("train", "--from", "photographs", "--out", tmp_path / "none.safetensors") == 2
    assert "backbone is tiny, but photographs was trained with mobilenet_v2" in error_line(capsys)
    assert not (tmp_path / "none.safetensors").exists()


def test_classes_without_episodes_and_repeated_support_are_said(folder, data, tmp_path, capsys):
    """Cases 04 and 11: one of fold 1's two novel classes keeps a single photograph, the other one keeps three."""
    root = shutil.copytree(folder, tmp_path / "few")
    names = (root / "classes.txt").read_text().split("\n")
    kept = {2: 1, 6: 3}  # by value in the masks: how many images
    for path in sorted((root / "masks").iterdir()):
        with Image.open(path) as mask:
            labels = np.array(mask)
        for value in kept:
            shown = (labels == value).mean() >= 0.02 and kept[value] > 0
            kept[value] -= shown
            labels[labels == value] = value if shown else 0
        Image.fromarray(labels).save(path)
    options = ["--data", f"folder:{root}", *data[6:], "--fold", 1]
    assert run("train", *options, *data[2:6], *SMALL, "--fold", 0, "--out", tmp_path / "head.safetensors") == 0
    assert load_head(tmp_path / "head.safetensors")[1]["base_classes"] == [names[i] for i in (2, 3, 5, 6, 7)]
    few = f"1 of 6 classes have fewer than two images and are not trained on: {names[1]}\n"
    text = capsys.readouterr().out
    assert few in text and "repeat" not in text
    shots = ["--training", "n_shot=3", "batch_size=2", "--steps", 2]
    assert run("train", *options, *data[2:6], *shots, "--fold", 0, "--out", tmp_path / "three.safetensors") == 0
    assert "support images repeat: n_shot is 3, and a class has only 2 more images\n" in capsys.readouterr().out
    assert run("train", *options, *data[2:6], *SMALL, "--out", tmp_path / "one.safetensors") == 0
    capsys.readouterr()
    scored = ["evaluate", *options, "--checkpoint", tmp_path / "one.safetensors", "--episodes", 4]
    assert run(*scored, "--shots", 1, 5) == 2
    told = f"5 shots need 6 images of a class, but {names[5]} has 3 to draw from; give fewer shots, or let support"
    assert error_line(capsys).startswith(told)
    assert run(*scored, "--shots", 2, 5, "--repeat-support") == 0
    text = capsys.readouterr().out
    one = f"the scores are of 1 of 2 classes; {names[1]}: no episode (each needs two images)"
    repeat = "Fold 1, 5-shot: support images repeat; a class has only 2 different ones beside the query"
    assert f"Fold 1, 2-shot: {one}" in text and f"Fold 1, 5-shot: {one}" in text
    assert repeat in text and "2-shot: support images repeat" not in text


def test_dropping_every_image_names_the_setting_to_change(folder, data, tmp_path, capsys):
    """Every image of this copy shows all classes."""
    root = shutil.copytree(folder, tmp_path / "all")
    for path in (root / "masks").iterdir():
        Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8) + 1, 8)[:, None].repeat(64, 1)).save(path)
    options = ["train", "--data", f"folder:{root}", *data[2:], *SMALL, "--out", tmp_path / "head.safetensors"]
    assert run(*options) == 2
    assert "train with --novel ignore or --novel background" in error_line(capsys)


def test_names_that_the_terminal_cannot_show_are_escaped(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    options.say("na\u00efve \u732b \udcff\n\x1b[31m\r\u202e")
    assert sys.stdout.buffer.getvalue() == b"na\xefve \\u732b \\udcff\n\\x1b[31m\\r\\u202e\n"


def test_evaluate_prints_the_table_and_writes_the_counts(head, data, tmp_path, capsys):
    options = [*data[:2], *data[6:], "--checkpoint", head, "--fold", 1, "--shots", 1, 2, "--episodes", 10]
    assert run("evaluate", *options, "--out", tmp_path / "scores.json") == 0
    text = capsys.readouterr().out
    record = json.loads((tmp_path / "scores.json").read_text())
    assert len(record["scores"]) == 4 and record["checkpoint"] == "head.safetensors"
    found, lists = {}, [EpisodeList.from_json(json.dumps(values)) for values in record["episodes"]]
    for method, n_shot, scores in record["scores"]:
        counts, classes = np.array(scores["counts"]), np.array(scores["class_index"])
        assert set(classes) == {1, 5} and (counts[:, 1] + counts[:, 2] == 64 * 64).all()  # at the size of the training
        ious = [counts[classes == c, 0].sum() / counts[classes == c, 1].sum() for c in np.unique(classes)]
        found[method, n_shot] = 100 * np.mean(ious)
        row, *difference = [line for line in text.splitlines() if re.match(rf"\| {method} +\| {n_shot} ", line)]
        cell = percent(found[method, n_shot] / 100, mean_interval([read_scores(scores, lists)], resample_runs=True))
        assert f"| {cell} |" in re.sub(" +", " ", row) and len(difference) == (method == "training-free")
        without_images = mean_interval([EpisodeScores.from_dict(scores)], resample_runs=True)
        assert percent(found[method, n_shot] / 100, without_images) != cell
    assert "mIoU of DPNet minus that of" in text
    for n_shot in (1, 2):  # the last table
        cell = re.findall(rf"^\| training-free +\| {n_shot} +\| (\S+) \[(\S+), (\S+)\] +\|$", text, re.MULTILINE)[-1]
        points, low, high = map(float, cell)
        assert points == pytest.approx(found["DPNet", n_shot] - found["training-free", n_shot], abs=0.051)
        assert low <= points <= high and low < high and cell[0][0] in "+-"
    assert run("evaluate", *options) == 0
    assert capsys.readouterr().out == text  # the same episodes every time
    assert run("evaluate", *options, "--seed", 1) == 0
    assert capsys.readouterr().out != text


def test_a_head_that_does_not_say_its_folds_is_scored_by_those_that_are_named(head, data, tmp_path, capsys):
    """Older versions did not write them."""
    tensors, facts = load_checkpoint(head)
    save_checkpoint(tmp_path / "old.safetensors", tensors, {n: v for n, v in facts.items() if n != "n_folds"})
    common = ["evaluate", *data[:2], *data[6:], "--shots", 1, "--episodes", 4, "--checkpoint"]
    said = "old.safetensors does not say its folds: --n-folds 4 --folds interleaved is taken; give what it was trained "
    for path, more, is_said in ((head, [], False), (old := tmp_path / "old.safetensors", [], True)):
        assert run(*common, path, *more) == 0
        assert (said in capsys.readouterr().out) == is_said
    assert run(*common, old, "--n-folds", 4) == 0 and "does not say" not in capsys.readouterr().out


def test_classes_that_a_head_has_seen_are_not_scored(head, data, tmp_path, capsys):
    options = ["evaluate", *data[:2], *data[4:], "--checkpoint", head, "--shots", 1, "--episodes", 4]
    assert run(*options, "--fold", 2) == 2
    assert re.search(
        r"head.safetensors was trained on '.*', a novel class of fold 2; choose a fold whose novel", error_line(capsys)
    )
    # The same fold number holds other classes in the other layout.
    assert run(*options, "--fold", 1, "--folds", "blocked") == 2
    assert "a novel class of fold 1; choose a fold whose novel classes it never saw" in error_line(capsys)
    # A head that does not list its classes is judged by its fold.
    tensors, facts = load_checkpoint(head)
    del facts["base_classes"]
    save_checkpoint(tmp_path / "old.safetensors", tensors, facts)
    options[options.index(head)] = tmp_path / "old.safetensors"
    assert run(*options, "--fold", 3) == 2
    assert "--fold 1)" in error_line(capsys)
    assert run(*options, "--fold", 1) == 0


def test_evaluate_on_the_toy_world(capsys, monkeypatch):
    read: list[Path] = []
    load = checkpoints.load_tensors
    monkeypatch.setattr(checkpoints, "load_tensors", lambda path: read.append(Path(path)) or load(path))
    options = ["evaluate", "--checkpoint", shipped_head(2), "--shots", 1, "--episodes", 4]
    assert run(*options, "--fold", 2) == 0
    text = capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.startswith(("| DPNet ", "| training-free "))]
    assert len(rows) == 3 and "[" not in "".join(rows)  # one episode a class has no spread to show
    assert "no episode (fewer episodes than classes; give more with --episodes)" in text
    assert "\n\nNo intervals: a class has fewer than 5 episodes; give more with --episodes.\n\n" in text
    assert text.startswith("Novel classes of fold 2 of toy, 4 episodes each (SHA-256: 1-shot ")
    assert f"by {shipped_head(2)}, trained on toy, fold 2" in text.splitlines()[0]
    assert read.count(shipped_head(2)) == 1
    assert run(*options) == 0 and capsys.readouterr().out == text  # its own fold where none is named
    assert run(*options, "--fold", 1) == 2
    assert "--fold 2)" in error_line(capsys)


def test_evaluate_does_not_guess_a_folder(head, capsys):
    assert run("evaluate", "--checkpoint", head) == 2
    assert "head.safetensors was trained on folder:photographs; give --data folder:PATH" in error_line(capsys)
    assert run("evaluate", "--checkpoint", head, "--data", "toy", "--fold", 1, "--shots", 1, "--episodes", 4) == 0
    assert re.match(
        "Novel classes of fold 1 of toy, .* trained on folder:photographs, fold 1\n", capsys.readouterr().out
    )


def test_a_finished_head_is_replaced_only_when_asked(head, data, tmp_path, capsys):
    path = Path(shutil.copy(head, tmp_path))
    common = ["train", *data, *SMALL, "--novel", "ignore", "--fold", 1, "--seed", 1, "--out", path]
    assert run(*common) == 2
    assert "head.safetensors is there already; give another place with --out, or" in error_line(capsys)
    assert path.read_bytes() == head.read_bytes()
    assert run(*common, "--overwrite", "--tensorboard", tmp_path / "board") == 0
    assert f"saved {path}: weights of step 4 of 4" in capsys.readouterr().out
    assert path.read_bytes() != head.read_bytes()
    assert list((tmp_path / "board").rglob("events.out.tfevents.*"))  # the losses


def test_evaluate_wants_the_backbone_of_the_training(head, data, tmp_path, capsys):
    torch.save(plain_weights("tiny"), tmp_path / "other.pth")
    options = ["--checkpoint", head, "--fold", 1, "--backbone-weights", tmp_path / "other.pth"]
    assert run("evaluate", *data[:2], *data[4:], *options) == 2
    assert re.search("was trained on other tiny weights .* name the same file .*--backbone-weights", error_line(capsys))


def test_predict_writes_masks_of_the_pictures_sizes(head, folder, tmp_path, capsys):
    Image.fromarray(np.full((31, 47, 3), 90, dtype=np.uint8)).save(tmp_path / "wide.jpg")
    pairs = [folder / "images/00.png", folder / "drawn/00.png", folder / "images/08.png", folder / "drawn/08.png"]
    images = [folder / "images/16.png", (tmp_path / "wide.jpg").rename(tmp_path / "wi\nd\x1b[31me.jpg")]
    assert run("predict", *images, "--checkpoint", head, "--out", tmp_path / "masks", "--support", *pairs) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, size, line in zip(("16", "wi\nd\x1b[31me"), ((64, 64), (47, 31)), lines, strict=True):
        with Image.open(tmp_path / f"masks/{name}.png") as mask:
            assert mask.size == size and set(np.unique(np.array(mask))) <= {0, 255}
            share = 100 * (np.array(mask) == 255).mean()
        assert line == f"{tmp_path / 'masks' / options.escaped(name)}.png: {share:.1f} % foreground"


def test_predict_overwrites_only_what_it_is_asked_to(head, folder, tmp_path, capsys):
    for name in ("images", "masks", "drawn"):
        shutil.copytree(folder / name, tmp_path / name)
    photograph, out = tmp_path / "images/16.png", tmp_path / "out"
    before = photograph.read_bytes()
    common = ["--checkpoint", head, "--support", tmp_path / "images/00.png", tmp_path / "drawn/00.png"]
    for images, folder_out, complaint in (
        ([photograph], photograph.parent, "16.png would be overwritten; rename an image or give another"),
        ([tmp_path / "images/00.png"], tmp_path / "drawn", "00.png would be overwritten; rename an image"),
        ([photograph, tmp_path / "masks/16.png"], out, "16.png would be written for two images; rename one"),
        ([photograph, tmp_path / "none.png"], out, "no file"),
    ):
        assert run("predict", *images, *common, "--out", folder_out) == 2
        assert complaint in error_line(capsys)
    assert photograph.read_bytes() == before and not out.exists()
    out.mkdir()
    (out / "16.png").write_bytes(b"drawn by hand")
    assert run("predict", photograph, *common, "--out", out) == 2
    assert "16.png is there already; give another place with --out, or replace it with" in error_line(capsys)
    assert (out / "16.png").read_bytes() == b"drawn by hand"
    assert run("predict", photograph, *common, "--out", out, "--overwrite") == 0
    assert (out / "16.png").read_bytes() != b"drawn by hand"


def test_info(head, capsys):
    assert run("info", head) == 0
    text = capsys.readouterr().out
    n_numbers = sum(parameter.numel() for parameter in load_head(head)[0].parameters())
    assert f"{n_numbers:,} numbers" in text and json.loads(text[text.index("{") :])["fold"] == 1
    assert run("info") == 0
    assert json.loads(capsys.readouterr().out)["dpnet_lite"] == __version__


@pytest.mark.usefixtures("default_interrupt")
def test_a_stopped_training_goes_on_to_the_same_head(folder, data, tmp_path, monkeypatch, capsys):
    common = ["train", *data, *SMALL, "--novel", "ignore", "--fold", 1]
    assert run(*common, "--out", tmp_path / "whole.safetensors") == 0
    step = Trainer._step

    def stopped_step(self, batches):
        step(self, batches)
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)

    path = tmp_path / "stopped.safetensors"
    monkeypatch.setattr(Trainer, "_step", stopped_step)
    capsys.readouterr()
    assert run(*common, "--out", path) == 130
    assert "stopped at step 2 of 4; go on with --resume" in capsys.readouterr().err and not path.exists()
    monkeypatch.undo()
    use_few_scenes(monkeypatch)
    assert run(*common, "--out", path, "--resume") == 0
    whole, resumed = (load_checkpoint(p)[0] for p in (tmp_path / "whole.safetensors", path))
    assert all(bool((whole[name] == resumed[name]).all()) for name in whole)
    capsys.readouterr()
    assert run(*common, "--out", path, "--resume") == 0  # already at its end
    said = capsys.readouterr()
    assert "training DPNet" not in said.err and said.out == f"saved {path}: weights of step 4 of 4\n"
    for changed in (["--seed", 1], ["--steps", 6], ["--size", 32]):
        assert run(*common, *changed, "--out", path, "--resume") == 2
        assert "resume with the same settings" in error_line(capsys)
    assert run(*common, "--out", tmp_path / "new.safetensors", "--resume") == 2
    assert "nothing to resume in" in error_line(capsys)
    state = tmp_path / "stopped/state.bin"
    state.write_bytes(state.read_bytes()[:-20])
    assert run(*common, "--out", path, "--resume") == 2
    assert "state.bin is not a whole training state" in error_line(capsys)


def mirror(folder: Path) -> Path:
    """Other photographs of the same classes: the folder's own, mirrored in place."""
    for path in (*folder.glob("images/*"), *folder.glob("masks/*")):
        with Image.open(path) as image:
            mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mirrored.save(path)
    return folder


def test_extra_classes_named_like_novel_ones_are_refused(tmp_path, folder, data, capsys):
    """Another folder of the same classes would train on the novel ones under another name."""
    extra = mirror(Path(shutil.copytree(folder, tmp_path / "photographs")))
    options = [*data, "--extra-base", f"folder:{extra}", *SMALL, "--fold", 1]
    assert run("train", *options, "--out", tmp_path / "head.safetensors") == 2
    message = error_line(capsys)
    assert "has the name of a novel class of fold 1; leave it out" in message and "folder:photographs#2/" in message


def test_classes_seen_under_an_extra_folders_name_are_not_scored(head, data, tmp_path, capsys):
    tensors, facts = load_checkpoint(head)
    novel = (Path(str(data[1]).removeprefix("folder:")) / "classes.txt").read_text().split("\n")[1]
    facts["base_classes"].append(f"folder:elsewhere/{novel.upper()}")
    save_checkpoint(tmp_path / "extra.safetensors", tensors, facts)
    assert run("evaluate", *data[:2], *data[4:], "--checkpoint", tmp_path / "extra.safetensors", "--fold", 1) == 2
    assert f"was trained on {novel!r}" in error_line(capsys)


def test_any_number_of_folds(folder, data, tmp_path, monkeypatch, capsys):
    options = [*data, *SMALL, "--n-folds", 2, "--novel", "background"]
    assert run("train", *options, "--fold", 1, "--out", tmp_path / "half.safetensors") == 0
    names = (folder / "classes.txt").read_text().split("\n")[:8]
    assert load_head(tmp_path / "half.safetensors")[1]["base_classes"] == names[0::2]
    # Fold and number of folds are the head's; what makes the tables fails after the scores are written.
    monkeypatch.setattr("dpnet_lite.experiments.tables.summary_table", lambda scores: 1 / 0)
    scored = ["evaluate", *data[:2], *data[6:], "--checkpoint", tmp_path / "half.safetensors", "--episodes", 8]
    assert run(*scored, "--out", tmp_path / "scores.json", "--shots", 1) == 2
    assert "ZeroDivisionError" in error_line(capsys)
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert [{*counted["class_index"]} for _, _, counted in scores] == [{1, 3, 5, 7}] * 2
    assert run("train", *options, "--fold", 2, "--out", tmp_path / "none.safetensors") == 2
    assert "--fold is 2, but there are 2 folds; give 0 to 1" in error_line(capsys)


def test_wrong_masks_are_refused(head, folder, tmp_path, capsys):
    image, small = folder / "images/00.png", tmp_path / "small.png"
    Image.fromarray(np.full((20, 30), 255, dtype=np.uint8)).save(small)
    common = ["predict", image, "--checkpoint", head, "--out", tmp_path / "out", "--support", image]
    assert run(*common, folder / "masks/00.png") == 2
    assert re.search("mask holds [2-9] values above 0 .* give 0 and one other value", error_line(capsys))
    assert run(*common, small) == 2
    assert f"support mask 1 ({small}) of foreground is [20, 30], its image [64, 64]" in error_line(capsys)


def test_demo_on_a_folder_with_extra_base_classes(tmp_path, folder, data, capsys, caplog):
    extra = Path(shutil.copytree(folder, tmp_path / "photographs"))
    (extra / "classes.txt").write_text("".join(f"other {number}\n" for number in range(8)))
    assert run("train", *data, *SMALL, "--extra-base", f"folder:{extra}", "--out", tmp_path / "twice.safetensors") == 2
    same = [sorted(root.glob("images/*"))[0] for root in (folder, extra)]  # under other names they would be trained on
    n_images = len([*folder.glob("images/*")])
    assert error_line(capsys) == (
        f"{n_images} photographs lie in two folders, first {same[0]} and {same[1]}; leave them out of one"
    )
    mirror(extra)
    again = extra / "images/again.png"
    shutil.copy(extra / "images/00.png", again)
    shutil.copy(extra / "masks/00.png", extra / "masks/again.png")
    assert run("train", *data, *SMALL, "--extra-base", f"folder:{extra}", "--out", tmp_path / "told.safetensors") == 0
    told = f"1 photographs lie there twice, first {extra / 'images/00.png'} and {again}: one may be support and query"
    assert [message for message in caplog.messages if message.startswith(told)]
    again.unlink()
    (extra / "masks/again.png").unlink()
    doubled = f"folder:{extra}"
    assert run("train", *data, *SMALL, "--extra-base", doubled, doubled, "--out", tmp_path / "twice.safetensors") == 2
    assert f"{n_images} photographs lie in two folders, first" in error_line(capsys)
    options = ["--extra-base", f"folder:{extra}", "--novel", "background", *SMALL, "--fold", 0, "--original-size"]
    scored = ["--episodes", 6, "--shots", 1, "--out", tmp_path / "out"]
    assert run("demo", *data, *options, *scored) == 0, capsys.readouterr().err
    assert (tmp_path / "out/episodes.png").exists()
    _, facts = load_head(tmp_path / "out/dpnet_fold0_seed0.safetensors")
    assert len(facts["base_classes"]) == 6 + 8 and facts["base_classes"][-1].startswith("folder:photographs#2/")
    record = json.loads((tmp_path / "out/fold0_seed0.json").read_text())
    assert {c for _, _, scores in record["scores"] for c in scores["class_index"]} == {0, 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--model", "selektion=top_k"], "'selektion=top_k' is no setting; give NAME=VALUE with a name of"),
        (["demo", "--training", "steps"], "'steps' is no setting; give NAME=VALUE"),
        (["demo", "--model", "selection=best"], "selection is 'best'; choose one of"),
        (["demo", "--model", "channels=many"], f"not fit; the value now is {ModelConfig().channels}"),
        (["demo", "--model", "background=maybe"], "'background=maybe' does not fit; the value now is True"),
        (["demo", "--fold", "7"], "--fold is 7, but there are 4 folds; give 0 to 3"),
        (["demo", "--device", "cpu:1"], "device is 'cpu:1', but PyTorch finds cpu here; use --device cpu or auto"),
        (["evaluate", "--checkpoint", HEAD, "--device", "mps"], "device is 'mps', but PyTorch finds cpu here"),
        (["demo", "--gap", "1.5"], "gap is 1.5; choose a number from 0"),
        (["demo", "--size", "64"], "leave out --size, --folds and --n-folds"),
        (["train", "--folds", "blocked"], "leave out --size, --folds and --n-folds"),
        (["demo", "--backbone", "vgg16"], "need --data folder:PATH"),
        (["demo", "--device", "tpu"], "tpu"),
        (["train", "--device", "cuda", "--steps", "1"], "--device cpu"),
        (["train", "--training", "n_held_out=3"], "set both or neither"),
        (["train", "--training", "seed=5"], "--training seed=5: --seed, --seeds and --steps set the same; give that"),
        (["demo", "--steps", "3", "--training", "steps=4"], "--training steps=4: --seed, --seeds and --steps set the"),
        (["demo", "--model", "channels=8", "--model", "channels=4"], "'channels=4' comes after channels=8; give each"),
        (["train", "--model", "network=foo"], "network is 'foo'; choose one of dpnet, panet, ssp"),
        (
            ["predict", PHOTOGRAPH, "--checkpoint", NONE, "--support", "a.png"],
            "--support has a.png, no pairs; give pairs",
        ),
        (["predict", "--checkpoint", NONE, "--support", "a.png", "b.png"], "no image to segment: --support takes all"),
        (["info", __file__], "test_cli.py does not end in .safetensors; give a checkpoint"),
        (["predict", PHOTOGRAPH, "--checkpoint", NONE, "--support", "a.png", "b.png"], f"no file {NONE}: check"),
        (["predict", PHOTOGRAPH, "--checkpoint", str(TINY), "--support", "a.png", "b.png"], "not a DPNet head; give"),
        (["predict", PHOTOGRAPH, "--checkpoint", HEAD, "--support", "a.png", "b.png"], "a.png is not a file; check"),
        (["evaluate", "--checkpoint", NONE], f"no file {NONE}: check the path"),
        (["info", NONE], f"no file {NONE}: check the path"),
        (["info", "no\nsuch\x1b[31m.safetensors"], r"no file no\nsuch\x1b[31m.safetensors: check the path"),
    ],
)
def test_errors_take_one_line_with_value_and_remedy(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(*arguments) == 2
    assert message in error_line(capsys)


def test_the_gap_is_of_the_toy_world_alone(data, capsys):
    assert run("demo", *data, "--gap", 0.3) == 2
    assert "--gap 0.3 is a dial of the toy world; leave it out with --data folder:PATH" in error_line(capsys)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("classes.txt", "photographs has no classes.txt; write one class name per line"),
        ("masks", "photographs has no folder masks/; it needs images/ and masks/"),
        ("masks/07.png", "masks/07.png or remove the image"),
    ],
)
def test_an_incomplete_folder_is_told(folder, missing, message, tmp_path, capsys):
    copy = tmp_path / "photographs"
    shutil.copytree(folder, copy)
    path = copy / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert run("demo", *folder_options(copy, tmp_path / "cache"), *SMALL) == 2
    assert message in error_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--data", "folder:none"], "there is no folder none; give folder:PATH to an existing one"),
        (["demo", "--data", "coco"], "'coco' is no data set; give toy or folder:PATH"),
        (["demo", "--fold", "one"], "'one' is no fold; give its number, from 0, or all"),
        (["evaluate", "--checkpoint", "x", "--backbone", "vgg16"], "unknown: --backbone vgg16"),
        (["train", "--stesp", "5"], "unknown: --stesp 5 (is --steps meant?); see dpnet-lite train --help"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--fold", "all"], "argument --fold: 'all' does not fit; give a whole number from 0"),
        (["demo", "--episodes", "0"], "--episodes: '0' does not fit; give a whole number from 1"),
        (["demo", "--shots", "1", "0"], "--shots: '0' does not fit; give a whole number from 1 to 1000"),
        (["train", "--threads", "-1"], "--threads: '-1' does not fit; give a whole number from 1 to 4096"),
        (["train", "--n-folds", "0"], "--n-folds: '0' does not fit; give a whole number from 2"),
        (["evaluate", "--checkpoint", "x", "--size", "1"], "--size: '1' does not fit; give a whole number from 32"),
        (["train", "--seed", str(2**64)], f"--seed: '{2**64}' does not fit; give a whole number from 0 to {2**63 - 1}"),
        (["demo", "--shots", "\u0663"], "--shots: '\u0663' does not fit; give a whole number from 1 to 1000"),
        (["demo", "--fold", "\u0663"], "'\u0663' is no fold; give its number, from 0, or all"),
        (["demo", "--gap", "0_1"], "argument --gap: '0_1' is no number; give one such as 3 or 0.5"),
        (["ablate", "aux", "--gpus-per-run", " 1"], "--gpus-per-run: ' 1' is no number; give one such as 3 or 0.5"),
        (["demo", "--seeds", "0", "-1"], "--seeds: '-1' does not fit; give a whole number from 0"),
        (["data", "prepare", "coco20i", "--root", "x", "--workers", "0"], "--workers: '0' does not fit; give a whole"),
        (["demo", "--seeds", "0", "--shots", "1", "--seeds=1"], "--seeds is given twice; put all its values behind"),
        (["--vers"], "required: command"),
        (["predict", "x.png", "--support", "a.png", "b.png", "--out", ""], "argument --out: it is empty; give a path"),
        (["train", "\x1b[31m\n"], r"unknown: \x1b[31m\n; see"),
        (["train", "--out", ".safetensors"], "'.safetensors' does not end in .safetensors; give such a name"),
        (["train", "--out", "head.pth"], "'head.pth' does not end in .safetensors"),
        (["demo", "--backbone", "vit"], "invalid choice: 'vit'"),
        (["predict", "x.png"], "--support"),
        ([], "command"),
    ],
)
def test_wrong_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    line = error_line(capsys)
    assert message in line and line.endswith(" --help")


def test_nothing_is_written_among_the_data(folder, capsys):
    before = sorted(folder.rglob("*"))
    for command, option, name in (
        (["train"], "out", "x.safetensors"),
        (["train", "--out", "x.safetensors"], "tensorboard", "logs"),
        (["evaluate", "--checkpoint", NONE], "out", "index.json"),
        (["demo"], "out", ""),
        (["demo"], "cache", "cache"),
        (["ablate", "modules"], "table", "masks/rows.sqlite"),
        (["data", "episodes", "fss1000", "--root", folder], "out", "lists"),
    ):
        data = [] if "--root" in command else ["--data", f"folder:{folder}"]
        assert run(*command, *data, f"--{option}", folder / name) == 2
        told = f"--{option} {folder / name} lies in {folder}, a folder of data; give a place outside it"
        assert error_line(capsys) == told
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("wish", ["abc", "-1", "0", "1e3", "9" * 20])
def test_a_wrong_number_of_pixels_is_blamed_on_the_environment(wish, monkeypatch, capsys):
    monkeypatch.setenv("DPNET_LITE_MAX_PIXELS", wish)
    told = f"the environment variable DPNET_LITE_MAX_PIXELS is {wish!r}; give a whole number of pixels"
    assert run("info") == 2 and error_line(capsys) == told


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_checkpoints_are_refused(damage, tmp_path, capsys):
    damaged = tmp_path / "tiny_backbone.safetensors"
    data = bytearray(TINY.read_bytes())
    if damage == "cut":
        del data[-100:]
    else:
        data[-100] ^= 4
    damaged.write_bytes(bytes(data))
    assert run("info", damaged) == 2
    assert str(damaged.with_suffix("")) in error_line(capsys)


@pytest.mark.parametrize(
    "arguments", [["--debug", "info", "none.safetensors"], ["info", "--debug", "none.safetensors"]]
)
def test_debug_shows_the_traceback_before_the_line(arguments, capsys):
    assert run(*arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith("Traceback (most recent call last):") and "FileNotFoundError" in text
    assert text.rstrip("\n").split("\n")[-1] == "dpnet-lite: error: no file none.safetensors: check the path"


PLACE = "check the path, its rights and the room on its disk, or give another"


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (KeyError("fold"), "an error inside dpnet-lite: KeyError: 'fold'; run again with --debug and report it"),
        (OSError(28, "No space left on device"), f"No space left on device; {PLACE}"),
        (PermissionError(13, "Permission denied", "mine/images"), f"mine/images: Permission denied; {PLACE}"),
        (ModuleNotFoundError("No module named 'tqdm'"), "No module named 'tqdm'; install it again: pip install dpnet"),
        (ModuleNotFoundError("ray is missing: pip install 'dpnet-lite[cluster]'"), "ray is missing: pip install 'dpn"),
        (MemoryError(), "MemoryError; lower --size, batch_size or --jobs, or raise accumulate"),
        (RuntimeError("CUDA out of memory. Tried\nto"), "CUDA out of memory. Tried; lower --size, batch_size or"),
        (RuntimeError("[enforce] can't allocate memory: 9"), "[enforce] can't allocate memory: 9; lower --size, batch"),
        (RuntimeError("\n\nthe second line\n"), "the second line"),
    ],
)
def test_whatever_is_raised_takes_one_line(raised, line, monkeypatch, capsys):
    def fail(args):
        raise raised

    monkeypatch.setattr(info, "run", fail)
    assert run("info") == 2
    assert error_line(capsys).startswith(line)
    assert run("info", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


STOPPED = """
import signal, sys
class Stop:
    def find_spec(name, *rest):
        if name == {name!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                if name == "torch":
                    return  # as libraries do
                raise
sys.meta_path.insert(0, Stop)
from dpnet_lite.cli.main import main
sys.exit(main(["info"]))
"""


@pytest.mark.parametrize("name", ["dpnet_lite.cli.info", "torch"])
def test_ctrl_c_while_something_is_imported_takes_one_line(name):
    result = subprocess.run([sys.executable, "-c", STOPPED.format(name=name)], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (130, "dpnet-lite: stopped\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no full disk to write to")
def test_output_that_nobody_takes(monkeypatch):
    """A full disk is an error in one line; whoever closes the pipe (`| head -1`) wants no more, and no word."""
    command = [sys.executable, "-m", "dpnet_lite", "--help"]
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    line = f"dpnet-lite: error: standard output: No space left on device; {PLACE}\n"
    assert (result.returncode, result.stderr) == (2, line)
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


def test_names_that_the_terminal_cannot_show_end_no_run(monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(info, "run", lambda args: options.say("na\u00efve \u732b \udcff"))
    assert run("info") == 0
    assert shown.buffer.getvalue() == b"na\xefve \\u732b \\udcff\n"
    monkeypatch.setattr(sys, "stdout", None)  # closed, as by >&-
    assert run("info") == 0


def test_places_are_of_the_user_and_apart(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    for parse in (options.parse_path, options.parse_checkpoint):
        assert parse("~/a.safetensors") == tmp_path / "a.safetensors"
    assert run("train", "--out", tmp_path / "a.safetensors", "--tensorboard", tmp_path / "a.safetensors") == 2
    assert error_line(capsys).endswith(f"both {tmp_path / 'a.safetensors'}; give each a place of its own")
    (tmp_path / "episodes.png").write_text("mine")
    assert run("demo", "--out", tmp_path) == 2
    assert error_line(capsys).startswith(f"{tmp_path / 'episodes.png'} is there already")


@pytest.mark.parametrize("name", ["classes.txt", "head.json", "link.json"])
def test_scores_replace_no_file_of_another_kind(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("link.json").symlink_to("head.json")
    Path(name).write_text("mine")
    Path("head.safetensors").touch()  # of another training than what is scored
    assert run("evaluate", "--checkpoint", "other.safetensors", "--out", name, "--overwrite") == 2
    assert error_line(capsys) == f"--out {name} is not for scores; give a name in .json that is no checkpoint's"
    assert Path(name).read_text() == "mine"


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--out", "file/x.safetensors"],
        ["train", "--tensorboard", "file"],
        ["pretrain", "--out", "file/x.safetensors"],
        ["evaluate", "--checkpoint", NONE, "--out", "file/scores.json"],
        ["demo", "--out", "file"],
        ["ablate", "modules", "--out", "file/in/it"],
        ["ablate", "modules", "--table", "file/rows.sqlite"],
        ["predict", PHOTOGRAPH, "--support", "a.png", "b.png", "--out", "file"],
        ["data", "episodes", "fss1000", "--root", "none", "--out", "file"],
    ],
)
def test_where_nothing_can_be_written_is_told_first(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    assert run(*command) == 2
    assert re.match(r"\S+ cannot be written: file is no folder that takes files; give another", error_line(capsys))
    assert Path("file").read_text() == "mine" and len(list(Path().iterdir())) == 1


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="has no folder that nobody can write to")
def test_what_is_there_is_kept(head, data, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"^/sys/new/x cannot be written: /sys is no folder that takes files; give"):
        options.check_output(Path("/sys/new/x"))  # not even by the superuser
    with pytest.raises(ValueError, match=r"^/dev/null is no regular file; give another name$"):
        options.check_output(Path("/dev/null"))
    (tmp_path / "mine.json").write_text('{"format": "of another program"}')
    evaluate = ["evaluate", *data[:2], *data[6:], "--checkpoint", head, "--fold", 1, "--shots", 1, "--episodes", 4]
    assert run(*evaluate, "--out", tmp_path / "mine.json") == 2
    assert "mine.json is there already; give another place with --out, or replace it with --ov" in error_line(capsys)
    foreign = ['{\n  "format": "of another program"\n}', '{\n  "format": 1\n}', '{\n  "format": 1, "sha256"', "[1]"]
    for text in foreign:
        (tmp_path / "mine.json").write_text(text)
        for overwrite in ([], ["--overwrite"]):
            assert run("train", "--out", tmp_path / "mine.safetensors", *overwrite) == 2
            assert "mine.json is another program's and would be replaced; give another name" in error_line(capsys)
        assert (tmp_path / "mine.json").read_text() == text
    assert run(*evaluate, "--out", tmp_path / "mine.json", "--overwrite") == 0
    assert "scores" in json.loads((tmp_path / "mine.json").read_text())


def test_help_gives_examples_that_parse(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "examples:" in text
    examples = [line.split()[1:] for line in text.splitlines() if line.startswith("  dpnet-lite ")]
    assert {example[0] for example in examples} >= {"demo", "train", "evaluate", "predict", "info"}
    for example in examples:
        words = ["toy" if re.match(r"\w+:\w", word) else word for word in example]  # that folder is not here
        assert callable(build_parser().parse_args(words).run)


HELP = """
import contextlib, io, sys
for name in ("torch", "torchvision", "numpy", "matplotlib", "PIL"):
    sys.modules[name] = None  # whoever imports it now fails
from dpnet_lite.cli.main import COMMANDS, main
for words in ([], *([name] for name in COMMANDS), ["data", "check"], ["data", "prepare"], ["data", "episodes"]):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    assert text.getvalue().startswith(" ".join(["usage: dpnet-lite", *words])), words
    assert "--help" in text.getvalue() and (words or all(name in text.getvalue() for name in COMMANDS))
"""


def test_help_of_every_command_loads_nothing_heavy():
    subprocess.run([sys.executable, "-c", HELP], check=True)


WARNS = """
import logging, sys, warnings
from dpnet_lite.cli import info, main, options
def run(args):
    from matplotlib import pyplot as plt
    options.say(plt.get_backend())
    for name in ("a\\n\\x1b[31m", "a\\n\\x1b[31m", "b"):
        warnings.simplefilter("default")  # as libraries do: then Python forgets what it has shown
        warnings.warn(f"{name} is odd")
    logging.getLogger("dpnet_lite.storage").warning("kept in \\x1b[31m")
info.run = run
sys.argv = ["dpnet-lite", "info"]
sys.exit(main.main())
"""


def test_warnings_take_a_line_each_and_no_display_is_asked_for():
    """They showed a line of the source, and the names' control characters; a foreign backend ended a demo after it."""
    command, environment = [sys.executable, "-c", WARNS], os.environ | {"MPLBACKEND": "nope"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout.lower()) == (0, "agg\n"), result.stderr
    start = "dpnet-lite: warning: "
    assert result.stderr == f"{start}a\\n\\x1b[31m is odd\n{start}b is odd\nkept in \\x1b[31m\n"


def test_closed_streams_wishes_for_errors_and_removed_folders_end_no_command(tmp_path):
    lines = ["import os, sys, warnings", "from dpnet_lite.cli import info, main"]
    lines += ["info.run = lambda args: [warnings.warn('odd'), print(sys.stderr.write('x'))]", "sys.argv[1:] = ['info']"]
    command = [sys.executable, "-W", "error", "-c", "\n".join([*lines, "{}sys.exit(main.main())"])]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for before, status, told in (
        ("os.close(2); sys.stderr = None; ", 0, ""),
        ("os.rmdir(os.getcwd()); ", 2, "removed"),
    ):
        (tmp_path / "here").mkdir(exist_ok=True)
        ran = [part.replace("{}", before) for part in command]
        how = {"cwd": tmp_path / "here", "env": environment, "capture_output": True, "text": True}
        result = subprocess.run(ran, **how)
        assert (result.returncode, result.stdout) == (status, "" if told else "1\n"), result.stderr
        assert told in result.stderr and "Error" not in result.stderr


def test_a_terminal_of_no_width_shows_a_bar_too(monkeypatch, capsys):
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda file: (0, 0))
    assert list(Stages()("training")([1, 2])) == [1, 2]
    assert "100% |" in capsys.readouterr().err


def test_every_command_has_its_file_and_one_type_for_paths():
    files = {path.stem for path in Path(options.__file__).parent.glob("[a-z]*.py")}
    assert not [path for path in Path(options.__file__).parent.glob("*.py") if "type=Path" in path.read_text()]
    assert {name.replace("-", "_") for name in COMMANDS} == files - {"main", "options"}


def test_the_module_runs_as_a_program():
    command = [sys.executable, "-m", "dpnet_lite", "--version"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == f"dpnet-lite {__version__}\n" and result.stderr == ""
