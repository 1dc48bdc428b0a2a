"""What the network costs beside its frozen backbone, on a CPU: ratios within one run, with the goals beside them.

make bench                                       # this and short waits
make bench-all                                   # with demo, explorers and curves; writes docs/performance.md
python benchmarks/cpu.py --only-ratios --out cpu.json

The yard is torchvision's ResNet-50 up to layer3 at stride 8, channels_last, on both images of a 1-shot episode. Yard
and step are timed in turn, so that a slow moment of the machine falls on both; a ratio is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import Tensor, nn

from benchmarks.measuring import Step, environment, peak_allocation, peak_memory, positive
from dpnet_lite.backbones.backbone import Backbone, build_backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.experiments.presets import PHOTOGRAPHS
from dpnet_lite.features import assemble
from dpnet_lite.losses import episode_loss, episode_targets
from dpnet_lite.model.cycle_comparison import select_reliable
from dpnet_lite.model.dpnet import DPNet, Support
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.model.prototypes import masked_average

Row = dict[str, Any]
HEADS = {
    "64 channels, the default": (ModelConfig(), 1.10),
    "the preset for photographs": (PHOTOGRAPHS.model, 1.15),
    "256 channels": (ModelConfig(channels=256), 1.28),
}
MEGABYTE = 2**20


class Episodes:
    """Random images with a disc, a fifth of the image, as the object."""

    def __init__(self, size: int, n_shot: int, batch: int = 1) -> None:
        generator = torch.Generator().manual_seed(0)
        self.size, self.batch, self.n_shot = size, batch, n_shot
        self.images = torch.randn(batch * (n_shot + 1), 3, size, size, generator=generator)
        axis = torch.linspace(-1, 1, size)
        centre = torch.empty(len(self.images), 2, 1).uniform_(-0.4, 0.4, generator=generator)
        rows, columns = (axis - centre[:, 0]) ** 2, (axis - centre[:, 1]) ** 2  # [n, S]
        self.labels = (rows[:, :, None] + columns[:, None, :] < 0.25).long()

    def assembled(self, features: Tensor) -> EpisodeBatch:
        return assemble(features, self.labels, self.batch)

    def read(self, backbone: Backbone) -> EpisodeBatch:
        return self.assembled(backbone(self.images))


def yard_network() -> nn.Module:
    """torchvision's ResNet-50 to layer3 at stride 8, as it comes."""
    from torchvision.models import resnet50

    network = resnet50(weights=None, replace_stride_with_dilation=[False, True, True]).eval()
    parts = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    return nn.Sequential(*(getattr(network, part) for part in parts)).to(memory_format=torch.channels_last)


def ratio(step: Step, yard: Step, rounds: int) -> dict[str, float]:
    """Times in turn, after one call of each: the ratio's median and range, and the medians of both times."""
    step(), yard()
    yards, steps = [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        yard()
        middle = time.perf_counter()
        step()
        yards.append(middle - begin)
        steps.append(time.perf_counter() - middle)
    found = [one / other for one, other in zip(steps, yards, strict=True)]
    return {
        "value": statistics.median(found),
        "least": min(found),
        "most": max(found),
        "seconds": statistics.median(steps),
        "yard_seconds": statistics.median(yards),
    }


@torch.no_grad()
def evaluation_rows(backbone: Backbone, yard: nn.Module, size: int, rounds: int) -> Iterator[Row]:
    """One-shot episodes against the yard; five shots with kept supports against the backbone on the query."""
    one, five = Episodes(size, 1), Episodes(size, 5)
    channels_last = one.images.contiguous(memory_format=torch.channels_last)
    shown = five.read(backbone)

    def next_query(head: DPNet, support: Support) -> Tensor:
        batch = shown._replace(query_features=backbone(five.images[:1]))
        return head(batch, (size, size), support=support).logits.argmax(1)

    for name, (config, goal) in HEADS.items():
        head = DPNet(config, backbone.out_channels, backbone.deep_channels).eval()
        found = ratio(lambda head=head: head(one.read(backbone), (size, size)).logits.argmax(1),
                      partial(yard, channels_last), rounds)  # fmt: skip
        yield {"what": f"1-shot episode / yard: {name}", "goal": goal, **found}
        found = ratio(partial(next_query, head, head.encode_support(shown)), partial(yard, channels_last[:1]), rounds)
        yield {"what": f"5 shots, supports cached / yard on one image: {name}", "goal": 1.15, **found}


@torch.no_grad()
def matching_row(backbone: Backbone, yard: nn.Module, size: int, rounds: int) -> Row:
    """CCM on 1,024 channels against the yard."""
    episodes = Episodes(size, 1)
    batch = episodes.read(backbone)
    step = cycle_comparison(batch)
    found = ratio(step, partial(yard, episodes.images.contiguous(memory_format=torch.channels_last)), rounds)
    return {"what": "CCM on 1,024 channels / yard", "goal": 0.05, **found}


def cycle_comparison(batch: EpisodeBatch) -> Step:
    """CCM of the preset for photographs on the deep stage, shot by shot."""
    support, query = batch.support_features[:, :, -1024:], batch.query_features[:, -1024:]
    prototype = masked_average(support, batch.support_masks).mean(dim=1)

    def step() -> None:
        select_reliable(PHOTOGRAPHS.model, support, batch.support_masks, query, prototype, all_matches=False)

    return step


def training_row(backbone: Backbone, yard: nn.Module, size: int, rounds: int) -> Row:
    """A step of training with 4 episodes against the yard on their 8 images."""
    episodes, settings = Episodes(size, 1, batch=4), TrainingConfig()
    head = DPNet(ModelConfig(), backbone.out_channels, backbone.deep_channels).train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def step() -> None:
        batch = episodes.read(backbone)
        loss = episode_loss(head(batch, (size, size)), episode_targets(batch, head.config.auxiliary), settings)[0]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), settings.gradient_clip)
        optimiser.step()

    images = episodes.images.contiguous(memory_format=torch.channels_last)
    with_no_gradient = torch.no_grad()(partial(yard, images))
    found = ratio(step, with_no_gradient, rounds)
    return {"what": "training step, batch 4 / yard on its 8 images", "goal": 1.6, **found}


def memory_rows(size: int) -> Iterator[Row]:
    """Peak memory of fresh processes, which this file runs as a program with one word."""

    def peak(word: str) -> float:
        command = [sys.executable, __file__, "--size", str(size), "--only-memory", word]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    print("memory, in ten fresh processes ...", flush=True)
    found = statistics.median(peak("evaluation") - peak("yard") for _ in range(5)) / MEGABYTE
    yield {"what": "1-shot evaluation: peak memory above the yard's, MB", "goal": 60.0, "value": found}
    cells = -(-size // 8)
    features = torch.rand(6, cells, cells, 1024, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    step = cycle_comparison(assemble(features, Episodes(size, 5).labels, 1))
    found = torch.no_grad()(lambda: peak_allocation(step))() / MEGABYTE
    yield {"what": "CCM on 1,024 channels, 5 shots: extra memory, MB", "goal": 60.0, "value": found}


@torch.no_grad()
def print_memory(word: str, size: int) -> None:
    """What one process of `memory_rows` does; the answer is printed."""
    episodes, yard = Episodes(size, 1), yard_network()
    backbone = build_backbone("resnet50", "random") if word == "evaluation" else None
    for _ in range(2):
        if backbone is None:
            yard(episodes.images.contiguous(memory_format=torch.channels_last))
        else:
            yard = nn.Identity()
            head = DPNet(ModelConfig(), backbone.out_channels, backbone.deep_channels).eval()
            head(episodes.read(backbone), (size, size)).logits.argmax(1)
    print(peak_memory())


def rows(size: int, rounds: int) -> Iterator[Row]:
    yard, backbone = yard_network(), build_backbone("resnet50", "random")
    yield from evaluation_rows(backbone, yard, size, rounds)
    yield matching_row(backbone, yard, size, rounds)
    yield training_row(backbone, yard, size, rounds)
    del yard, backbone
    yield from memory_rows(size)


def main(arguments: list[str] | None = None) -> int:
    """Without options as `make bench` does; it takes about five minutes on two cores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", type=positive, default=473, help="side of the images in pixels")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--all", action="store_true", help="also the demo, the explorers and scaling curves")
    parser.add_argument("--only-ratios", action="store_true", help="ratios and memory alone, no waits")
    parser.add_argument("--out", type=Path, help="also write everything to this JSON file")
    parser.add_argument("--only-memory", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only_memory:
        print_memory(options.only_memory, options.size)
        return 0
    found: dict[str, Any] = {"environment": environment(torch.device("cpu")), "size": options.size, "rows": []}
    sources = [rows(options.size, options.rounds)]
    if not options.only_ratios:
        from benchmarks import scaling, waits

        if options.all:
            found["curves"] = scaling.curves()
        sources.append(waits.rows(everything=options.all))
    for row in itertools.chain(*sources):
        found["rows"].append(row)
        goal = "" if row["goal"] is None else f"(goal at most {row['goal']:g})"
        print(f"{row['what']:85} {row['value']:8.3f}  {goal}", flush=True)
        if options.out:  # what is known so far: a run that is stopped leaves its rows
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
