"""Small settings for the tests of commands: a toy world of few scenes, and the same as somebody's own folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpnet_lite.cli import main as cli
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.experiments import experiment

SMALL = ["--steps", "4", "--model", "channels=8", "--training", "batch_size=2", "--threads", "1"]


def use_few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few toy scenes and validation episodes, and no lasting effect of --threads on the other tests."""
    for function, few in (
        (experiment.toy_training_world, {"n_scenes": 70}),
        (experiment.toy_test_world, {"n_scenes": 42}),
        (experiment.toy_fold, {"n_train": 70, "n_test": 42}),
    ):
        monkeypatch.setattr(function, "__kwdefaults__", function.__kwdefaults__ | few)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def write_folder(root: Path) -> Path:
    """48 toy scenes of eight classes as images/, masks/ and classes.txt."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    world = ToyWorld(48, seed=3, targets=range(8), others=range(8), size=64)
    (root / "classes.txt").write_text("\n".join(world.class_names[:8]) + "\n")
    for number in range(len(world)):
        image, labels = world[number]
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / f"images/{number:02}.png")
        Image.fromarray(labels.numpy()).save(root / f"masks/{number:02}.png")
    return root


def write_one_class_masks(root: Path, class_index: int) -> Path:
    """Masks of one class, 0 and 255, beside those of a folder, as people draw them."""
    (root / "drawn").mkdir()
    for path in sorted((root / "masks").iterdir()):
        with Image.open(path) as mask:
            Image.fromarray((np.array(mask) == class_index + 1).astype(np.uint8) * 255).save(root / "drawn" / path.name)
    return root / "drawn"


def folder_options(folder: Path, cache: Path) -> list[object]:
    return ["--data", f"folder:{folder}", "--backbone", "tiny", "--size", 64, "--cache", cache]
