"""Make the weights and the photographs that come with the package again, from data that do not.

python tools/make_weights.py ../shared                       # what concerns photographs, and the variants of fold 0
python tools/make_weights.py ../shared --only one_scale      # one of them: backbone, objects, full, or a variant
dpnet-lite demo --fold all --seeds 1 --out outputs/demo && python tools/make_weights.py --toy outputs/demo

The folder holds photos/ and photos_extra/ (to train on, see `LEFT_OUT`), objects/ and weights/ (to be shipped).
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save_file

from dpnet_lite.backbones.backbone import MOBILENET_WEIGHTS, build_backbone
from dpnet_lite.checkpoints import load_head, save_head, shipped_head
from dpnet_lite.datasets import OBJECTS_FOLDER
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.experiments.experiment import TrainingData, folder_bank, plain_name, toy_training_world
from dpnet_lite.experiments.jobs import save_trained, train_head
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.experiments.presets import N_FOLDS, PHOTOGRAPHS, TOY
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.storage.caches import default_cache
from dpnet_lite.storage.files import load_tensors, sha256

SEED = 1
KEPT = "step data dataset fold base_classes seed training training_episodes episodes scores"
LAST_BLOCK = 14  # of MobileNetV2: the first one with 160 channels
VARIANTS: dict[str, dict[str, Any]] = {  # by the name in the file's name; "" is the full network
    "support_only": {"pseudo_prototype": False},
    "no_interaction": {"interaction": "off"},
    "one_scale": {"fusion": "single"},  # without MSF
}
# Classes of the training photographs that are kept out of the head for photographs: the shipped objects, what goes by
# another name for them or is their kin, and what else was seen in the shipped photographs.
LEFT_OUT = {
    "backpack": "object 1",
    "handbag": "a bag, as object 1",
    "suitcase": "a bag, as object 1",
    "teddy bear": "object 2; the toy sloth and the toy wolf are its kin",
    "bear": "object 2 is a toy bear",
    "dog": "object 5; the toy wolf is its kin",
    "bird": "the rubber duck (object 6) is one",
    "boots": "object 7",
    "shoes": "objects 4, 7 and 12",
    "car": "the toy car (object 10); a real one stands behind it",
    "truck": "the toy car (object 10) is its kin",
    "person": "behind objects 5 and 10",
    "bench": "under or behind objects 3, 4, 7, 8, 12 and 13",
    "book": "behind object 10",
    "couch": "behind object 11",
    "chair": "behind object 1",
    "dining table": "under object 1",
    "bed": "under object 5",
    "bicycle": "behind objects 12 and 13",
    "stop sign": "behind objects 12 and 13",
    "tv": "a screen behind object 9",
}


def ship_backbone(shared: Path) -> None:
    """The blocks that the backbone needs, as float16, with where they are from."""
    source = shared / "weights" / "mobilenet_v2_features_imagenet_fp16.safetensors"
    blocks = {name: tensor.half() for name, tensor in load_tensors(source).items() if _is_kept(name)}
    save_file(blocks, MOBILENET_WEIGHTS)
    facts = {
        "what": "MobileNetV2 of torchvision, weights IMAGENET1K_V1: features.0 to features.14, rounded to float16",
        "licence": "BSD-3-Clause, Copyright (c) Soumith Chintala 2016; the text is in NOTICE",
        "terms": "trained on ImageNet, whose images are for non-commercial research and education: see image-net.org",
        "sha256": sha256(MOBILENET_WEIGHTS.read_bytes()),
    }
    MOBILENET_WEIGHTS.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")


def _is_kept(name: str) -> bool:
    return int(name.split(".")[1]) <= LAST_BLOCK and not name.endswith("num_batches_tracked")


def ship_objects(shared: Path) -> None:
    """The photographs that may be shown, as WebP, which takes a quarter less room; their masks as they are."""
    source = shared / "objects"
    shutil.rmtree(OBJECTS_FOLDER, ignore_errors=True)
    shutil.copytree(source / "masks", OBJECTS_FOLDER / "masks", copy_function=shutil.copyfile)
    (OBJECTS_FOLDER / "images").mkdir()
    for path in sorted((source / "images").iterdir()):
        with Image.open(path) as image:
            image.save(OBJECTS_FOLDER / "images" / f"{path.stem}.webp", quality=75, method=6)
    shutil.copyfile(source / "classes.txt", OBJECTS_FOLDER / "classes.txt")
    told = "Changes: resized; masks made for this set."
    sources = (source / "SOURCES.md").read_text(encoding="utf-8")
    if told not in sources:
        raise SystemExit(f"SOURCES.md no longer says {told!r}; say here what else was changed")
    more = "Changes: resized; masks made for this set. For this package also saved as WebP, quality 75."
    (OBJECTS_FOLDER / "SOURCES.md").write_text(sources.replace(told, more), encoding="utf-8")


def photographs_data(shared: Path) -> TrainingData:
    """All photographs and all classes but those left out, whose pixels count nowhere."""
    roots, backbone = [shared / "photos", shared / "photos_extra"], build_backbone(PHOTOGRAPHS.backbone)
    bank = folder_bank(roots, backbone, size=PHOTOGRAPHS.size, cache_folder=default_cache(), stage=Stages(1))
    names = [plain_name(name) for name in bank.dataset.class_names]
    unwanted = {plain_name(name) for name in LEFT_OUT}
    left_out = tuple(index for index, name in enumerate(names) if name in unwanted)
    if missing := unwanted - set(names):
        raise SystemExit(f"{min(missing)!r} is to be left out, but no class of the photographs has that name")
    base = tuple(index for index in range(len(names)) if index not in left_out)
    return TrainingData(0, bank.seen_by_training(TrainingView(bank.dataset, left_out, "ignore")), base)


def toy_data() -> TrainingData:
    """Fold 0 of the drawn world, as the shipped heads had it."""
    world = toy_training_world(0, seed=SEED)
    bank = compute_features(world, build_backbone(TOY.backbone), size=TOY.size, progress=Stages(1)("drawing scenes"))
    return TrainingData(0, bank, world.targets)


def ship_head(data: TrainingData, preset: Any, name: str, changes: dict[str, Any], **facts: Any) -> None:
    """Train one head and put it into the package."""
    training = replace(preset.training, seed=SEED)
    result = train_head(data, preset.model.changed(changes), training, name=name, stage=Stages(1))
    save_trained(shipped_head(name), data, training, result, half=True, **facts)


def ship_toy(folder: Path) -> None:
    """Round the heads of a finished toy run to float16."""
    backbone = build_backbone(TOY.backbone)
    for fold in range(N_FOLDS):
        head, metadata = load_head(folder / f"dpnet_fold{fold}_seed{SEED}.safetensors")
        if metadata["backbone_fingerprint"] != backbone.fingerprint:
            raise SystemExit(f"the head of fold {fold} was trained on another backbone; run the demo again")
        facts = {name: metadata[name] for name in KEPT.split()}
        save_head(shipped_head(fold), head, backbone, size=metadata["size"], half=True, **facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, nargs="?", help="folder with photos, photos_extra, objects and weights")
    parser.add_argument("--only", choices=("backbone", "objects", "full", *VARIANTS), nargs="*")
    parser.add_argument("--toy", type=Path, help="outputs of a demo on all folds of the toy world")
    args = parser.parse_args()
    if args.toy is not None:
        ship_toy(args.toy)
    if args.shared is None:
        return
    wanted = args.only or ("backbone", "objects", "full", *VARIANTS)
    if "backbone" in wanted:
        ship_backbone(args.shared)
    if "objects" in wanted:
        ship_objects(args.shared)
    variants = {name: changes for name, changes in VARIANTS.items() if name in wanted}
    if variants or "full" in wanted:
        photographs = photographs_data(args.shared)
        if "full" in wanted:
            ship_head(photographs, PHOTOGRAPHS, "photographs", {}, fold=None, left_out=LEFT_OUT)
        for name, changes in variants.items():
            ship_head(photographs, PHOTOGRAPHS, f"photographs_{name}", changes, fold=None, left_out=LEFT_OUT)
    drawn = {name: changes for name, changes in variants.items() if name != "no_interaction"}  # to save room
    if drawn:
        data = toy_data()
        for name, changes in drawn.items():
            ship_head(data, TOY, f"toy_{name}", changes)


if __name__ == "__main__":
    main()
