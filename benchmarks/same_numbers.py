"""Do two versions of the package, or two devices, compute the same? 100 random episodes, before and after.

PYTHONPATH=<an older checkout> python benchmarks/same_numbers.py --out old.pt
python benchmarks/same_numbers.py --out new.pt --against old.pt

Logits are compared relative to the largest; the matches of cycle comparison where the best cosine is more than 1e-5
ahead of the second, in float64.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # behind PYTHONPATH, which names the version

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from benchmarks.measuring import positive
from dpnet_lite.config import ModelConfig
from dpnet_lite.experiments.presets import PHOTOGRAPHS
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.model.episode_batch import EpisodeBatch

CHANNELS, DEEP = 192, 160
CONFIGS = (
    ModelConfig(),
    PHOTOGRAPHS.model,
    ModelConfig(channels=256),
    ModelConfig(selection="query_first", fusion="pyramid"),
    replace(PHOTOGRAPHS.model, prior=True, interaction="correlation"),
)
CLEAR = 1e-5  # how far the best cosine must be ahead
MOST = 20 * 60**4  # cosines of an episode batch: what is larger has fewer episodes


def episodes(count: int) -> Iterator[tuple[ModelConfig, EpisodeBatch]]:
    """Batches of 1 to 8 episodes, 1 to 20 shots, 12 to 60 cells a side, in the order of CONFIGS."""
    for number in range(count):
        rng = np.random.default_rng((18, number))
        n_shot, cells = int(rng.integers(1, 21)), int(rng.choice([12, 20, 33, 47, 60]))
        batch = max(1, min(int(rng.integers(1, 9)), MOST // (n_shot * cells**4)))
        generator = torch.Generator().manual_seed(number)
        kinds = torch.randn(12, CHANNELS, generator=generator)
        shape = (batch, 1 + n_shot, cells, cells)
        noise = 0.5 * torch.randn(*shape, CHANNELS, generator=generator)
        features = (kinds[torch.randint(12, shape, generator=generator)] + noise).relu().movedim(4, 2)
        masks = (torch.rand(batch, n_shot, cells, cells, generator=generator) * 4 - 2.5).clamp(0, 1)
        labels = torch.zeros(batch, 8, 8, dtype=torch.int64)
        yield (
            CONFIGS[number % len(CONFIGS)],
            EpisodeBatch(features[:, 1:].contiguous(), masks, 1 - masks, features[:, 0].contiguous(), labels),
        )


@torch.no_grad()
def computed(config: ModelConfig, batch: EpisodeBatch, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    head = DPNet(config, CHANNELS, DEEP).eval()
    for name in ("g1", "g2"):  # 0 in a new network
        if hasattr(head.interaction, name):
            getattr(head.interaction, name).fill_(0.3)
    batch, head = batch.to(device), head.to(device)
    logits = head(batch, batch.cells).logits.cpu()
    trace = head(batch, batch.cells, trace=True).trace
    inside = config.selection_features == "backbone"
    support = (batch.support_features[:, :, -DEEP:] if inside else trace.support).cpu().double()
    query = (batch.query_features[:, -DEEP:] if inside else trace.query).cpu().double()
    rows = functional.normalize(query.flatten(2).transpose(1, 2), dim=2)
    matches = []
    for shot, found in zip(support.unbind(dim=1), trace.matches, strict=True):
        cosines = functional.normalize(shot.flatten(2).transpose(1, 2), dim=2) @ rows.transpose(1, 2)
        for axis, index in ((2, found.forward_match), (1, found.backward_match)):
            two = cosines.topk(2, dim=axis).values
            matches.append((index.cpu().int(), two.diff(dim=axis).squeeze(axis).abs() > CLEAR))
    return {"logits": logits, "matches": matches}


def difference(new: dict[str, Any], old: dict[str, Any]) -> tuple[float, int, int, int]:
    """Of one batch: logits, relative; matches that differ, those among them that are clear, all matches."""
    relative = float((new["logits"] - old["logits"]).abs().max() / old["logits"].abs().max())
    differ = clear = count = 0
    for (mine, is_clear), (other, _) in zip(new["matches"], old["matches"], strict=True):
        wrong: Tensor = mine != other
        differ, clear, count = differ + int(wrong.sum()), clear + int((wrong & is_clear).sum()), count + mine.numel()
    return relative, differ, clear, count


def main(arguments: list[str] | None = None) -> int:
    """1 where logits differ by more than 1e-4, or a clear match does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--episodes", type=positive, default=100, help="batches")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args(arguments)
    torch.backends.cudnn.allow_tf32 = False  # else convolutions round to 10 bits, each of its shapes otherwise
    old = torch.load(options.against, weights_only=True) if options.against and options.against.is_file() else []
    if options.against and len(old) != options.episodes:
        parser.error(
            f"--against {options.against} holds {len(old)} batches, this run {options.episodes}; make them equal"
        )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    found = [computed(config, batch, options.device) for config, batch in episodes(options.episodes)]
    if options.out:
        torch.save(found, options.out)
    if not options.against:
        return 0
    rows = [difference(new, old) for new, old in zip(found, old, strict=True)]
    relative, differ, clear, count = (list(column) for column in zip(*rows, strict=True))
    print(
        f"{len(rows)} batches on {options.device}: logits differ by at most {max(relative):.1e} of the largest, ",
        end="",
    )
    print(f"median {np.median(relative):.1e}, {sum(r > 1e-4 for r in relative)} by more than 1e-4; ", end="")
    equal = [r for r, wrong in zip(relative, differ, strict=True) if not wrong]
    print(f"{len(equal)} without a match that differs: {max(equal, default=0):.1e}; ", end="")
    print(f"matches differ in {sum(differ):,} of {sum(count):,}, {sum(clear)} of them clear by {CLEAR:g}")
    return int(max(relative) > 1e-4 or sum(clear) > 0)


if __name__ == "__main__":
    sys.exit(main())
