"""Golden values: what the core computes, to notice when a change moves its numbers.

python tools/golden.py FOLDER           compute them and say how they differ from those kept in FOLDER
python tools/golden.py FOLDER --write   keep them there
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.checkpoints import load_head, shipped_head
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.folds import base_classes, novel_classes
from dpnet_lite.datasets.toy import ToyWorld, catalogue_names
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.scoring import head_segmenter, score_episodes, training_free_segmenter
from dpnet_lite.storage.files import digest_tensors
from dpnet_lite.training import Trainer, initial_network

N_CLASSES, SEED = len(catalogue_names()), 7_919
LARGEST = 4_096  # numbers; of larger weights the norm is kept
TRAININGS = {
    "default": (ModelConfig(), TrainingConfig(steps=20, flip=False, checkpoint_every=0)),
    "photographs": (
        ModelConfig(
            dropout=0.5,
            comparison="similarity",
            score_shortcut=True,
            selection_features="backbone",
            auxiliary="support",
        ),
        TrainingConfig(
            steps=20,
            n_shot=2,
            flip=False,
            checkpoint_every=0,
            foreground_weight=3.0,
            optimiser="sgd",
            schedule="poly",
        ),
    ),
}


def compute() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and plain values: logits and scores of the shipped heads, frozen lists, weights after 20 steps."""
    backbone = build_backbone("tiny")
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {"lists": {}, "scores": {}, "training": {}}
    for fold in range(4):
        novel = novel_classes(N_CLASSES, fold)
        world = ToyWorld(120, seed=SEED, targets=novel, others=range(N_CLASSES))
        bank = compute_features(world, backbone, size=world.size)
        head, _ = load_head(shipped_head(fold))
        segmenters = {
            "DPNet": head_segmenter(head),
            "training-free": training_free_segmenter(backbone.deep_channels),
        }
        for n_shot in (1, 5):
            episodes = draw_episodes(world, novel, fold=fold, n_shot=n_shot, count=50, seed=SEED)
            values["lists"][f"fold{fold} {n_shot}-shot"] = episodes.sha256
            for name, segment in segmenters.items():
                counts = score_episodes(segment, bank, episodes).counts.tolist()
                values["scores"][f"fold{fold} {n_shot}-shot {name}"] = counts
            if n_shot == 1:
                with torch.no_grad():
                    tensors[f"logits{fold}"] = segmenters["DPNet"](bank.batch(episodes.episodes[:4])).contiguous()
    base = base_classes(N_CLASSES, 0)
    train = compute_features(ToyWorld(200, seed=100, targets=base), backbone, size=96)
    for name, (model, training) in TRAININGS.items():
        network = initial_network(model, backbone, training.seed)
        result = Trainer(network, training, train, base, fold=0).run()
        weights = result.head.state_dict()
        values["training"][name] = {
            "sha256": digest_tensors(weights),
            "episodes": result.episodes_sha256,
            "norms": {key: float(weight.double().norm()) for key, weight in weights.items()},
            "losses": [row["loss"] for row in result.losses],
        }
        small = {key: weight for key, weight in weights.items() if weight.numel() <= LARGEST}
        tensors |= {f"{name}.{key}": weight.contiguous() for key, weight in small.items()}
    return tensors, values


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `--write` kept."""
    return load_file(folder / "golden.safetensors"), json.loads((folder / "golden.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tensors, values = compute()
    if args.write:
        args.folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, args.folder / "golden.safetensors")
        (args.folder / "golden.json").write_text(json.dumps(values) + "\n")
        return
    old_tensors, old_values = load(args.folder)
    for name in ("lists", "scores"):
        print(f"{name}: {sum(values[name][k] == v for k, v in old_values[name].items())} of {len(values[name])} equal")
    for name, old in old_values["training"].items():
        print(f"weights of training {name}: {'equal' if values['training'][name] == old else 'DIFFERENT'}")
    for name in sorted(old_tensors):
        if name.startswith("logits"):
            largest = (tensors[name] - old_tensors[name]).abs().max() / old_tensors[name].abs().max()
            print(f"{name}: largest difference {float(largest):.1e} of the largest logit")


if __name__ == "__main__":
    main()
