"""Recipes, training and scoring on made-up trees in the official layouts of the published data sets."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from core_fixtures import plain_weights
from PIL import Image
from places import SHARED
from published_files import write_hsnet_list, write_lines
from small_runs import run

from dpnet_lite.checkpoints import load_head
from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.folder import FolderDataset
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.episodes import EpisodeList, draw_episodes
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import mean_interval
from dpnet_lite.experiments.jobs import Scored
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.published import train as published_train
from dpnet_lite.published.check import examine
from dpnet_lite.published.copy import PublishedCopy
from dpnet_lite.published.list_files import ClassPair
from dpnet_lite.published.protocols.counting import perfect_logits, protocol_counts
from dpnet_lite.published.protocols.specs import PROTOCOLS
from dpnet_lite.published.recipe_files import FOLDER, load_recipe, shipped_recipes
from dpnet_lite.published.registry import fold_classes, open_published, published
from dpnet_lite.published.score import departures, listed_pairs, protocol_table
from dpnet_lite.scoring import own_labels
from dpnet_lite.training import Trainer

PHOTOS = SHARED / "photos"
RECIPES = {"pascal5i": "pascal_resnet50", "coco20i": "coco_resnet50", "fss1000": "fss_resnet50"}
SMALL = ["--backbone", "tiny", "--size", 64, "--model", "channels=8", "--training", "batch_size=2"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The command line's caches in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trees(pascal_tree, coco_root, fss_root) -> dict[str, Path]:
    return {"pascal5i": pascal_tree.root, "coco20i": coco_root, "fss1000": fss_root}


@pytest.fixture(scope="module")
def pascal(trees) -> list[object]:
    return ["--data", f"pascal5i:{trees['pascal5i']}"]


@pytest.fixture(scope="module")
def training(pascal) -> list[object]:
    """The command that trains by PASCAL's recipe, at a small size."""
    return ["train", *pascal, "--recipe", "pascal_resnet50", *SMALL]


@pytest.fixture(scope="module")
def heads(trees, tmp_path_factory) -> dict[str, Path]:
    """A head of fold 0 of each data set, trained by its recipe for ten steps."""
    folder = tmp_path_factory.mktemp("heads")
    for name, recipe in RECIPES.items():
        options = ["--data", f"{name}:{trees[name]}", "--recipe", recipe, *SMALL, "--steps", 10]
        assert run("train", *options, "--out", folder / f"{name}.safetensors") == 0
    return {name: folder / f"{name}.safetensors" for name in RECIPES}


# Recipes


def test_the_shipped_recipes_are_those_that_are_promised():
    names = {"pascal_resnet50", "pascal_resnet101", "pascal_vgg16", "coco_resnet50", "fss_resnet50"}
    assert set(shipped_recipes()) == names
    for name in names:
        recipe, values = load_recipe(name), tomllib.loads((FOLDER / f"{name}.toml").read_text())
        assert recipe.name == name and name.endswith(recipe.backbone)
        for part in ("model", "training"):
            assert values[part] and values[part].items() <= getattr(recipe, part).to_dict().items()


def test_epochs_give_steps_and_a_recipe_may_lie_at_home(monkeypatch):
    """200 epochs of 4,760 images in batches of 4: 238,000 steps."""
    assert load_recipe("pascal_resnet50").steps(4760) == 238_000
    assert load_recipe("pascal_resnet50").steps(0) == 1
    monkeypatch.setenv("HOME", str(FOLDER))
    assert load_recipe("~/pascal_resnet50.toml") == load_recipe("pascal_resnet50")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs = 200", ""), "lacks epochs"),
        (("epochs = 200", "epochs = 0"), "epochs is 0; choose a number from 1"),
        (("epochs = 200", "epochs = true"), "epochs is True; give a whole number"),
        (('"resnet50"', '"resnet51"'), "backbone is 'resnet51'; choose one of"),
        (('"background"', '"keep"'), "novel is 'keep'; choose one of"),
        (('"pascal5i"', '"pascal"'), "data is 'pascal'; choose one of pascal5i"),
        (("momentum", "momentun"), "no setting 'momentun'"),
        (("batch_size = 4", "batch_size = 0"), "batch_size is 0"),
        (("batch_size = 4", "batch_size = 4.5"), "batch_size is 4.5; give a whole number"),
        (("batch_size = 4", 'flip = "no"'), "flip is 'no'; give true or false"),
        (("batch_size = 4", "steps = 4"), "steps follow from epochs"),
        (("batch_size = 4", "seed = 4"), "seed is given by --seed; leave it out"),
        (("batch_size = 4", f"x = {'[' * 3000}"), "is not TOML (maximum recursion"),
        (("size = 473", "size = 473\ncolour = 1"), "unknown field colour"),
        (("size = 473", "size = "), "is not TOML"),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(tmp_path, change, message):
    text = (FOLDER / "pascal_resnet50.toml").read_text()
    assert change[0] in text
    (tmp_path / "mine.toml").write_text(text.replace(*change, 1))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_recipe(tmp_path / "mine.toml")
    assert "\n" not in str(caught.value) and str(tmp_path / "mine.toml") in str(caught.value)


def test_an_unknown_recipe_names_the_shipped_ones():
    with pytest.raises(FileNotFoundError, match="no recipe pascal_resnet18; give coco_resnet50, "):
        load_recipe("pascal_resnet18")


# Training and scoring


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_and_its_head_is_scored(heads, trees, tmp_path, capsys, name):
    _, metadata = load_head(heads[name])
    split = open_published(name, trees[name], "train")
    classes = fold_classes(name, 0, "train", n_split_classes=len(split.class_names))
    least = metadata["training"]["min_pixels"]
    drawn = np.flatnonzero((split.class_pixels >= max(least, 1)).sum(axis=0) >= 2)  # the others had no episode
    assert metadata["base_classes"] == [split.class_names[index] for index in classes.base if index in drawn]
    assert not set(metadata["base_classes"]) & {split.class_names[index] for index in classes.novel}
    assert metadata["recipe"] == RECIPES[name] and metadata["novel"] == "background"
    scores = tmp_path / "scores.json"
    shown = ["--episodes", 6, "--shots", 1, "--seed", 0, "--protocol", "ours", "hsnet", "--out", scores]
    mious = {}
    assert run("evaluate", "--data", f"{name}:{trees[name]}", "--checkpoint", heads[name], *shown) == 0
    table = capsys.readouterr().out
    runs = json.loads(scores.read_text())["runs"]
    assert [r["method"] for r in runs] == ["training-free", "DPNet"]
    for r in runs:
        assert set(r["scores"]) == {"ours", "hsnet"} and len(r["scores"]["ours"]["counts"]) == 6
        assert r["scores"]["ours"]["class_index"] == r["scores"]["hsnet"]["class_index"]
        miou = 100 * EpisodeScores.from_dict(r["scores"]["ours"]).miou
        assert f"| ours     | {r['method']:13} | 1     | 1 x 6            | {miou:.1f} " in table
        mious[r["method"]] = miou
    difference = f"{mious['DPNet'] - mious['training-free']:+.1f}"
    assert "\n\nDifferences, by ours:\n\n| mIoU of DPNet minus" in table
    assert re.search(rf"^\| training-free +\| 1 +\| {re.escape(difference)} +\|$", table, re.MULTILINE)


def test_case_04_a_class_that_cannot_be_scored_is_named(heads, fss_root, copy_of, tmp_path, capsys):
    """The masks of a test class stored as 0 and 1: it left the mean without a word. In training it is refused."""
    root = copy_of(fss_root)

    def store_as_one(name: str) -> None:
        for path in (root / name).glob("*.png"):
            Image.fromarray((np.array(Image.open(path).convert("L")) >= 128).astype(np.uint8)).save(path)

    store_as_one("nail")
    where, out = ["--data", f"fss1000:{root}"], tmp_path / "scores.json"
    shown = ["--episodes", 8, "--shots", 1, "--seed", 0, "--protocol", "ours", "hsnet", "--out", out]
    assert run("evaluate", *where, "--checkpoint", heads["fss1000"], *shown) == 0
    table, scores = capsys.readouterr().out, json.loads(out.read_text())["runs"][1]["scores"]["ours"]
    counts, index = np.array(scores["counts"]), np.array(scores["class_index"])
    sums = [counts[index == own].sum(axis=0) for own in range(3)]  # of the three that show their objects
    miou = np.mean([100 * own[0] / own[1] for own in sums])
    assert (
        not counts[index == 3].any()
        and f"| ours     | DPNet         | 1     | 1 x 8            | {miou:.1f} (3 of 4 c" in table
    )
    end = "in a list no episode shows its object, see: dpnet-lite data check."
    assert f"\n\nours, not scored: nail (left out of the mean); {end}" in table
    for name in ("abe's_fish", "ladder", "mug"):
        store_as_one(name)
    assert run("evaluate", *where, "--checkpoint", heads["fss1000"], *shown, "--out", tmp_path / "none.json") == 0
    assert "| none (0 of 4 classes) |" in capsys.readouterr().out
    store_as_one("egg")
    assert run("train", *where, "--recipe", "fss_resnet50", *SMALL, "--out", tmp_path / "x.safetensors") == 2
    assert (
        "error: no mask of class egg shows it (1 such classes); see: dpnet-lite data check" in capsys.readouterr().err
    )


def test_effective_rates_are_logged(heads):
    row = json.loads((heads["pascal5i"].with_suffix("") / "log.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 10 and row["learning_rate"] == pytest.approx(0.025 * (1 - 9 / 10) ** 0.9)
    assert TrainingConfig.from_dict(load_head(heads["pascal5i"])[1]["training"]).optimiser == "sgd"


@pytest.mark.parametrize(("novel", "steps"), [("background", 15), ("drop", 14)])
def test_without_a_wish_the_steps_are_those_of_the_recipe(pascal, tmp_path, capsys, novel, steps):
    """30 of the 40 training images show base classes of fold 0, 28 of these no novel one; batches of 2."""
    recipe, out = tmp_path / "short.toml", tmp_path / "head.safetensors"
    recipe.write_text((FOLDER / "pascal_resnet50.toml").read_text().replace("epochs = 200", "epochs = 1"), "utf-8-sig")
    assert run("train", *pascal, "--recipe", recipe, *SMALL, "--novel", novel, "--out", out) == 0
    text = capsys.readouterr().out
    assert f"weights of step {steps} of {steps}" in text and "% waiting for images" in text
    assert load_head(out)[1]["novel"] == novel


def test_options_reach_what_they_are_for(training, tmp_path, monkeypatch):
    seen = {}

    def spy(recipe, copy, fold, fabric):
        seen.update(vars(copy), size=recipe.size, fold=fold)
        raise ValueError("seen enough")

    monkeypatch.setattr(published_train, "recipe_data", spy)
    given = ["--cache", tmp_path, "--precision", "bf16", "--workers", 3, "--lists", tmp_path, "--size", 96]
    assert run(*training, "--fold", 2, *given, "--out", tmp_path / "x.safetensors") == 2
    assert (seen["cache_folder"], seen["precision"], seen["workers"]) == (tmp_path, "bf16", 3)
    assert (seen["lists"], seen["size"], seen["fold"]) == (tmp_path, 96, 2)


def test_ours_scores_five_lists_and_refuses_other_weights(heads, pascal, training, tmp_path, capsys):
    assert run(*training, "--out", heads["pascal5i"]) == 2 and "is there already" in capsys.readouterr().err
    scores = tmp_path / "scores.json"
    evaluate = ["evaluate", *pascal, "--checkpoint", heads["pascal5i"], "--episodes", 2, "--shots", 1]
    assert run(*evaluate, "--out", scores) == 0
    assert sorted({r["seed"] for r in json.loads(scores.read_text())["runs"]}) == [0, 1, 2, 3, 4]
    safetensors.torch.save_file(plain_weights("tiny", seed=3), tmp_path / "w.safetensors")
    assert run(*evaluate, "--backbone-weights", tmp_path / "w.safetensors") == 2
    assert "was trained on other tiny weights" in capsys.readouterr().err


def test_settings_that_must_fit_each_other_can_be_given(training, tmp_path):
    out = tmp_path / "head.safetensors"
    assert run(*training, "validate_every=1", "n_held_out=3", "--steps", 2, "--seed", 5, "--out", out) == 0
    _, metadata = load_head(out)
    assert len(metadata["validation"]) == 2 and metadata["seed"] == 5


def test_a_stopped_training_from_images_goes_on(training, tmp_path, monkeypatch, default_interrupt):
    options = [*training, "--steps", 6]
    assert run(*options, "--out", tmp_path / "whole.safetensors") == 0
    logged = Trainer._step

    def stop_at_three(self, batches):
        logged(self, batches)
        if self.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_step", stop_at_three)
    assert run(*options, "--out", tmp_path / "parts.safetensors") == 130
    monkeypatch.setattr(Trainer, "_step", logged)
    assert run(*options, "--out", tmp_path / "parts.safetensors") == 2  # without --resume
    assert run(*options, "--resume", "--workers", 1, "--out", tmp_path / "parts.safetensors") == 0
    whole, parts = (load_head(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_an_estimate_measures_and_saves_nothing(training, tmp_path, capsys):
    out = tmp_path / "head.safetensors"
    assert run(*training, "--steps", 720_000, "--estimate", "--out", out) == 0
    text = capsys.readouterr().out
    pattern = r"720,000 steps of 2 episodes at (\d+\.\d+) s take (\d+\.\d) hours; \d+ % of the time waiting"
    found = re.search(pattern, text)
    assert found and text.startswith("estimate for pascal_resnet50, fold 0, from 10 measured steps on ")
    assert float(found[2]) == pytest.approx(200 * float(found[1]), abs=1.1)  # 720,000 s are 200 hours
    assert not out.exists() and not out.with_suffix("").exists()


@pytest.mark.parametrize("name", ["pascal5i", "coco20i"])
def test_a_head_is_not_scored_on_classes_that_it_was_trained_on(heads, trees, capsys, name):
    options = ["--data", f"{name}:{trees[name]}", "--checkpoint", heads[name], "--fold", 1, "--episodes", 2]
    assert run("evaluate", *options) == 2
    assert "a novel class of fold 1; choose a fold whose novel classes it never saw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--recipe", "coco_resnet50"], "recipe coco_resnet50 is for coco20i, but the data is pascal5i"),
        (
            ["train", "--recipe", "pascal_resnet50", "--training", "steps=3"],
            "the steps of a recipe follow from its epochs",
        ),
        (["train"], "pascal5i is trained by a recipe; give --recipe with coco_resnet50, "),
        (["train", "--recipe", "pascal_resnet50", "--gap", "0.5"], "--extra-base and --gap are not for published"),
        (["train", "--recipe", "pascal_resnet50", "--fold", "4", "--backbone", "tiny"], "fold is 4, but PASCAL-5i has"),
        (["train", "--recipe", "pascal_resnet50", "--n-folds", "7"], "--n-folds has no meaning for a published"),
        (["train", "--recipe", "pascal_resnet50", "--lists", __file__], "which is no folder; give the one that holds"),
        (["demo"], "train and evaluate take it, this command does not"),
        (["ablate", "modules"], "train and evaluate take it, this command does not"),
    ],
)
def test_wrong_commands_are_told_in_one_line(pascal, tmp_path, capsys, arguments, message):
    assert run(*arguments, *pascal, "--out", tmp_path / "x.safetensors") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_recipes_need_a_published_data_set(capsys):
    assert run("train", "--recipe", "pascal_resnet50") == 2
    assert "need a published data set, such as --data pascal5i:PATH" in capsys.readouterr().err


def test_hsnets_lists_are_tested_pair_by_pair(heads, trees, pascal, tmp_path, capsys):
    """Four pairs of fold 0, eight episodes: the queries are the pairs in their order, twice."""
    split = open_published("pascal5i", trees["pascal5i"], "val")
    sofas, planes = (np.flatnonzero(split.class_pixels[:, index]).tolist() for index in (2, 0))
    chosen = [(sofas[0], 2), (planes[0], 0), (sofas[1], 2), (planes[1], 0)]
    lists = tmp_path / "lists"
    for fold in range(4):
        pairs = [ClassPair(split.ids[image], index) for image, index in chosen] if fold == 0 else []
        for folder in ("trn", "val"):
            write_hsnet_list(
                lists / folder / f"fold{fold}.txt", pairs or [ClassPair(name, 5 * fold) for name in split.ids]
            )
    shown = ["--checkpoint", heads["pascal5i"], "--protocol", "hsnet", "--shots", 1, "--episodes", 8, "--lists", lists]
    assert run("evaluate", *pascal, *shown, "--out", tmp_path / "scores.json") == 0
    tested = json.loads((tmp_path / "scores.json").read_text())["runs"][0]["scores"]["hsnet"]["class_index"]
    assert tested == [2, 0, 2, 0, 2, 0, 2, 0]
    copy = PublishedCopy("pascal5i", trees["pascal5i"], lists=lists)
    listed = copy.open("val", Stages())
    found = [(listed.ids[image], index) for image, index in listed_pairs(copy, listed, 0)]
    assert found == [(split.ids[image], index) for image, index in chosen]
    assert listed_pairs(replace(copy, lists=None), split, 0) is None
    assert run("evaluate", *pascal, *shown, "--episodes", 1) == 0  # of the first pair's class alone
    why = "in a list no episode shows its object; hsnet has no turns of classes: give more with --episodes, or see"
    text = capsys.readouterr().out
    assert "Trained on pascal5i with its own lists, scored on pascal5i with other lists (" in text
    assert f"not scored: aeroplane, bicycle, boat, bottle (counted as 0); {why}" in text and "two images" not in text


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{}__01", "the mask of {} shows no aeroplane; remove the line, or get the list again"),
        ("{}__06", "bus is no class of fold 0; move the line to the file of its fold"),
        ("2009_9__01", "the list of val does not name 2009_9; add it there, or remove this line"),
    ],
)
def test_pairs_that_contradict_masks_folds_or_lists_are_told_with_their_line(
    heads, trees, pascal, tmp_path, capsys, line, fault
):
    split = open_published("pascal5i", trees["pascal5i"], "val")
    other = next(
        name for name, pixels in zip(split.ids, split.class_pixels, strict=True) if pixels[5] and not pixels[0]
    )
    for name in ("train", "val"):
        write_lines(tmp_path / f"{name}_ids.txt", open_published("pascal5i", trees["pascal5i"], name).ids)
    for fold in range(4):
        shown = [name for name, pixels in zip(split.ids, split.class_pixels, strict=True) if pixels[5 * fold]]
        write_hsnet_list(tmp_path / f"val/fold{fold}.txt", [ClassPair(name, 5 * fold) for name in shown])
    evaluate = ["evaluate", *pascal, "--checkpoint", heads["pascal5i"], "--lists", tmp_path, "--protocol", "hsnet"]
    assert run(*evaluate, "--episodes", 4, "--shots", 1) == 0
    wrong, whole = tmp_path / "val/fold0.txt", [*(tmp_path / "val/fold0.txt").read_text().split()]
    write_lines(wrong, [whole[0], line.format(other), *whole[1:]])
    text = f"{wrong} line 2 is {line.format(other)!r}, but {fault.format(other)}"
    assert run(*evaluate) == 2 and capsys.readouterr().err.splitlines()[-1] == f"dpnet-lite: error: {text}"
    assert [found.text for found in examine("pascal5i", trees["pascal5i"], tmp_path) if found.kind == "wrong"] == [text]


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_tested_is_not_trained_on(name, trees, tmp_path, capsys):
    """Each is refused in the words of the check."""
    tree, lists = tmp_path / "tree", []
    shutil.copytree(trees[name], tree)
    if name == "pascal5i":
        lists = ["--lists", tmp_path]
        for own in ("train", "val"):
            write_lines(tmp_path / f"{own}.txt", [*open_published(name, tree, own).ids, "2008_000003"])
        told = "train and val share 1 images, first 2008_000003; give a folder with a list of each"
    elif name == "coco20i":
        (tree / "annotations/instances_val2017.json").rename(tree / "annotations/instances_val2014.json")
        told = "train and val are of two years, and train2017 holds images of val2014; unpack COCO's"
    else:
        write_lines(tree / "test.txt", ["mug", "egg"])
        told = f"{tree / 'test.txt'} names 'egg', and so does the list of train; get the lists again"
    train = ["train", "--data", f"{name}:{tree}", "--recipe", RECIPES[name], *SMALL, *lists]
    if name == "coco20i":
        val = tree / "annotations/instances_val2014.json"
        annotations = val.read_bytes()
        shutil.copy(tree / "annotations/instances_train2017.json", val)
        assert run(*train, "--out", tmp_path / "x.safetensors") == 2
        assert "train and val have the same annotations; unpack COCO's annotations_trainval" in capsys.readouterr().err
        val.write_bytes(annotations)
    assert run(*train, "--out", tmp_path / "x.safetensors") == 2 and told in capsys.readouterr().err
    wrong = [found.text for found in examine(name, tree, tmp_path if lists else None) if found.kind == "wrong"]
    assert len(wrong) == 1 and told in wrong[0]


# Tables


def test_where_a_table_departs_from_a_repository_it_says_so():
    hsnet, ssp, ours = (PROTOCOLS[name] for name in ("hsnet", "ssp", "ours"))
    assert "not HSNet's own" in departures([hsnet, ours], "pascal5i", has_pairs=False)[0]
    assert departures([hsnet, ssp], "pascal5i", has_pairs=True) == departures([ours], "coco20i", has_pairs=False) == []
    assert len(departures([hsnet, ssp], "coco20i", has_pairs=False)) == 2
    assert departures([ours, hsnet], "pascal5i", has_pairs=False) == []  # drawn as ours draws
    assert "votes" in departures([ours, hsnet], "pascal5i", has_pairs=False, shots=(1, 5))[0]


def test_ours_has_an_interval_where_there_are_episodes_enough():
    rng = np.random.default_rng(0)
    lists, runs = [], []
    ours, ssp = PROTOCOLS["ours"], PROTOCOLS["ssp"]
    for seed in range(2):
        union = rng.integers(50, 100, 40)
        inside = (union * rng.uniform(0.3, 0.9, 40)).astype(int)
        counts = np.stack([inside, union, 200 - union, 200 - inside], axis=1)
        lists.append(EpisodeScores(np.arange(40) % 5, counts, tuple("abcde"), f"list {seed}"))
        episodes = EpisodeList("data", 0, 1, seed, ())
        runs.append(Scored("DPNet", episodes, {"ours": lists[-1], "ssp": lists[-1]}))
    interval = mean_interval(lists)
    cell = f"{50 * sum(s.miou for s in lists):.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    table = protocol_table(runs, [ours, ssp], range(5))
    assert f"| {cell} |" in table and table.count("[") == 2  # the head's, and the row of ours
    assert "Intervals: episodes only, one training." in table
    few = EpisodeScores(np.zeros(4, int), lists[0].counts[:4], ("a",))
    assert protocol_table([Scored("DPNet", episodes, {"ours": few})], [ours], (0,)).count("[") == 1


def perfect_score(dataset, classes, *, min_pixels: int = 0) -> float:
    """mIoU under `ours` of a prediction that is the truth, over 30 episodes."""
    episodes = draw_episodes(dataset, classes, fold=0, n_shot=1, count=30, seed=0, min_area=0.0, min_pixels=min_pixels)
    counts = []
    for episode in episodes:
        labels = own_labels(dataset, episode.query, episode.class_index)
        counts.append(protocol_counts(PROTOCOLS["ours"], perfect_logits(PROTOCOLS["ours"], labels), labels))
    rows = [episode.class_index for episode in episodes]
    return EpisodeScores.from_lists(rows, counts, dataset.class_names).miou


@pytest.mark.parametrize("name", [*RECIPES, "toy", "photographs"])
def test_a_perfect_prediction_scores_exactly_one(trees, name):
    if name == "photographs" and not PHOTOS.is_dir():
        pytest.skip("the photographs are not here")
    if name in RECIPES:
        entry = published(name)
        dataset = open_published(name, trees[name], entry.test_split)
        novel = fold_classes(name, 0, entry.test_split, n_split_classes=len(dataset.class_names)).novel
        assert perfect_score(dataset, novel, min_pixels=entry.min_pixels) == 1.0
    else:
        dataset = ToyWorld(80, seed=1) if name == "toy" else FolderDataset(PHOTOS)
        assert perfect_score(dataset, range(20)) == 1.0
