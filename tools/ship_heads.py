"""Round the heads of a finished toy run to float16 and put them into the package.

dpnet-lite demo --fold all --seeds 1 --out outputs/demo && python tools/ship_heads.py outputs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.checkpoints import load_head, save_head, shipped_head
from dpnet_lite.experiments.presets import N_FOLDS

SEED = 1
FACTS = (
    "step",
    "data",
    "dataset",
    "fold",
    "base_classes",
    "seed",
    "training",
    "training_episodes",
    "episodes",
    "scores",
)


def main() -> None:
    backbone = build_backbone("tiny")
    for fold in range(N_FOLDS):
        head, metadata = load_head(Path(sys.argv[1]) / f"dpnet_fold{fold}_seed{SEED}.safetensors")
        if metadata["backbone_fingerprint"] != backbone.fingerprint:
            raise SystemExit(f"the head of fold {fold} was trained on another backbone; run the demo again")
        facts = {name: metadata[name] for name in FACTS}
        save_head(shipped_head(fold), head, backbone, size=metadata["size"], half=True, **facts)


if __name__ == "__main__":
    main()
