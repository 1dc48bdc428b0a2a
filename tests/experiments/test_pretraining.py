"""The tiny backbone: made from auxiliary classes alone, the same every time, and shipped with its facts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import run, use_few_scenes

from dpnet_lite.backbones.backbone import TINY_WEIGHTS, build_backbone
from dpnet_lite.backbones.tiny_resnet import TinyResNet
from dpnet_lite.checkpoints import load_checkpoint
from dpnet_lite.datasets.toy import ToyWorld, catalogue_names
from dpnet_lite.datasets.toy_outlines import AUXILIARY_OUTLINES, CLASS_OUTLINES
from dpnet_lite.datasets.toy_textures import AUXILIARY_TEXTURES, CLASS_TEXTURES
from dpnet_lite.experiments import pretraining
from dpnet_lite.experiments.pretraining import PretrainingConfig, pretrain
from dpnet_lite.storage.files import digest_tensors

SMALL = PretrainingConfig(n_scenes=20, steps=3, batch_size=4, precision="32-true")


@pytest.fixture(autouse=True)
def few_held_out_scenes(monkeypatch):
    monkeypatch.setattr(pretraining, "HELD_OUT_SCENES", 12)
    use_few_scenes(monkeypatch)


@pytest.fixture
def worlds(monkeypatch) -> list[ToyWorld]:
    """Every toy world that pretraining makes."""
    made: list[ToyWorld] = []

    def spy(*arguments, **settings):
        made.append(ToyWorld(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(pretraining, "ToyWorld", spy)
    return made


def test_a_few_steps_give_a_loadable_backbone(tmp_path):
    steps = []

    def progress(items):
        for item in items:
            steps.append(item)
            yield item

    metadata = pretrain(tmp_path / "tiny.safetensors", SMALL, progress=progress)
    assert steps == [0, 1, 2]
    backbone = build_backbone("tiny", tmp_path / "tiny.safetensors")
    assert backbone(torch.zeros(1, 3, 96, 96)).shape == (1, 144, 24, 24)
    tensors, stored = load_checkpoint(tmp_path / "tiny.safetensors")
    assert stored == metadata and all(torch.isfinite(tensor).all() for tensor in tensors.values())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SMALL.seed)
        start = TinyResNet(n_classes=81).state_dict()
    assert tensors.keys() == start.keys()
    assert not torch.equal(tensors["stage3.1.conv2.weight"], start["stage3.1.conv2.weight"])  # it has learned
    assert tensors["stem.1.num_batches_tracked"] == 3
    sidecar = json.loads((tmp_path / "tiny.json").read_text())
    assert sidecar["what"] == "tiny backbone" and PretrainingConfig.from_dict(sidecar["pretraining"]) == SMALL
    assert {"python", "torch", "torchvision", "dpnet_lite"} <= sidecar["versions"].keys()
    assert 0 <= sidecar["score"] <= 1


def test_the_same_seed_gives_the_same_tensors_and_another_seed_others(tmp_path):
    torch.manual_seed(123)  # the global state neither matters nor changes
    pretrain(tmp_path / "a.safetensors", SMALL)
    after = torch.rand(3)
    torch.manual_seed(123)
    assert torch.equal(after, torch.rand(3))
    torch.manual_seed(5)
    pretrain(tmp_path / "b.safetensors", SMALL)
    pretrain(tmp_path / "c.safetensors", replace(SMALL, seed=1))
    a, b, c = (load_checkpoint(tmp_path / f"{name}.safetensors") for name in "abc")
    assert a[1] == b[1] and all(torch.equal(a[0][name], b[0][name]) for name in a[0])
    assert not torch.equal(a[0]["stem.0.weight"], c[0]["stem.0.weight"])


def test_no_few_shot_class_is_ever_drawn(tmp_path, worlds):
    """Outlines and textures of all scenes that were used are those of the auxiliary catalogue alone."""
    pretrain(tmp_path / "tiny.safetensors", SMALL)
    assert len(worlds) == 2 and worlds[0].seed != worlds[1].seed  # the score is taken on other scenes
    auxiliary = [(outline, texture) for outline in AUXILIARY_OUTLINES for texture in AUXILIARY_TEXTURES]
    for world in worlds:
        assert world.catalogue == "auxiliary" and world.class_names == catalogue_names("auxiliary")
        shown = np.flatnonzero(world.class_areas.any(axis=0))
        assert len(shown) > 10
        assert not {auxiliary[c][0] for c in shown} & set(CLASS_OUTLINES)
        assert not {auxiliary[c][1] for c in shown} & set(CLASS_TEXTURES)
    assert not set(catalogue_names("auxiliary")) & set(catalogue_names())
    assert not set(AUXILIARY_OUTLINES.values()) & set(CLASS_OUTLINES.values())
    assert not set(AUXILIARY_TEXTURES.values()) & set(CLASS_TEXTURES.values())


def test_the_score_is_the_mean_iou_at_feature_size(monkeypatch):
    """Against a loop over classes, for a network that answers by a fixed rule."""
    world = ToyWorld(6, seed=4, catalogue="auxiliary")

    def labels_of(index):
        return world[index].labels.numpy()[2::4, 2::4].astype(int)

    rows = [labels_of(index) for index in range(6)]
    answers = [np.where(np.arange(24)[None, :] < 12, row, 0) for row in rows]  # right on the left half only
    queue = iter([torch.nn.functional.one_hot(torch.from_numpy(np.stack(answers)), 81).permute(0, 3, 1, 2).float()])
    score = pretraining._mean_iou(lambda images: next(queue), world)
    ious = []
    for value in range(1, 81):
        truth, answer = (np.stack(part) == value for part in (rows, answers))
        ious.append((truth & answer).sum() / max(1, (truth | answer).sum()))
    assert score == pytest.approx(np.mean(ious)) and 0 < score < 1


def test_the_shipped_backbone_says_how_it_was_made():
    """The sidecar repeats what the weight file itself proves."""
    assert Path(TINY_WEIGHTS).stat().st_size <= 2_000_000
    tensors, metadata = load_checkpoint(TINY_WEIGHTS)
    sidecar = json.loads(TINY_WEIGHTS.with_suffix(".json").read_text())
    assert {key: sidecar[key] for key in metadata} == metadata
    made = PretrainingConfig(**metadata["pretraining"])
    assert isinstance(made.seed, int) and made == replace(PretrainingConfig(), seed=made.seed)  # of the command
    assert {"torch", "torchvision", "dpnet_lite"} <= metadata["versions"].keys()
    assert 0.5 < metadata["score"] <= 1 and metadata["what"] == "tiny backbone"
    values = {
        f"tiny.{key}": tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()
    }
    own = {key: tensor for key, tensor in values.items() if not key.startswith("tiny.classifier")}
    assert build_backbone("tiny").fingerprint == digest_tensors(own)


def test_the_shipped_backbone_does_what_its_score_says():
    """On a few scenes of another seed: near the score of its sidecar, far above a random network's."""
    tensors, metadata = load_checkpoint(TINY_WEIGHTS)
    network = TinyResNet(n_classes=81).eval()
    network.load_state_dict(tensors)
    world = ToyWorld(60, seed=77, catalogue="auxiliary", gap=metadata["pretraining"]["gap"])
    present = int((world.class_areas > 0).any(axis=0).sum())
    score = pretraining._mean_iou(network, world) * 80 / present  # classes that do not occur count 0 there
    assert score == pytest.approx(metadata["score"], abs=0.15)


def test_the_command_writes_the_same_file_and_says_its_score(tmp_path, capsys):
    path = tmp_path / "tiny.safetensors"
    assert run("pretrain", "--steps", 2, "--scenes", 20, "--seed", 3, "--threads", 1, "--out", path) == 0
    metadata = load_checkpoint(path)[1]
    assert (metadata["pretraining"]["steps"], metadata["pretraining"]["seed"]) == (2, 3)
    assert f"mean IoU {100 * metadata['score']:.1f} %" in capsys.readouterr().out
    for arguments, message in (
        (["--device", "tpu", "--overwrite"], "device is 'tpu', but PyTorch finds "),
        ([], "tiny.safetensors is there already; give another place with --out, or replace it with --overwrite"),
    ):
        assert run("pretrain", *arguments, "--out", path) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("pretrain", "--out", tmp_path / "tiny.pth")
    assert "does not end in .safetensors" in capsys.readouterr().err
