"""What an evaluation episode costs, without clocks: operations, calls and memory may fall, not grow.

python tests/project/test_costs.py    keeps the figures of now
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cpu import HEADS, Episodes
from benchmarks.measuring import CallCounter, peak_allocation
from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.model.dpnet import DPNet

KEPT = Path(__file__).with_name("costs.json")
SIZE = 233  # pixels: enough for all of the work to be there


def costs(name: str, n_shot: int) -> dict[str, int]:
    """Of one episode, from the images to the logits."""
    backbone, episodes = build_backbone("resnet50", "random"), Episodes(SIZE, n_shot)
    torch.manual_seed(0)
    head = DPNet(HEADS[name][0], backbone.out_channels, backbone.deep_channels).eval()

    @torch.no_grad()
    def step() -> torch.Tensor:
        return head(episodes.read(backbone), (SIZE, SIZE)).logits

    step()
    with FlopCounterMode(display=False) as flops, CallCounter() as calls:
        step()
    return {
        "operations": flops.get_total_flops(),
        "convolutions": calls.convolutions,
        "matrix products": calls.products,
        "bytes held": peak_allocation(step),
    }


@pytest.mark.parametrize("n_shot", [1, 5])
@pytest.mark.parametrize("name", HEADS)
def test_an_episode_costs_no_more_than_it_did(name: str, n_shot: int) -> None:
    kept, found = json.loads(KEPT.read_text())[f"{name}, {n_shot}-shot"], costs(name, n_shot)
    for what, slack in (("operations", 1.01), ("convolutions", 1), ("matrix products", 1), ("bytes held", 1.05)):
        assert 0 < found[what] <= slack * kept[what], (what, found, kept)


def test_memory_is_counted_by_hand() -> None:
    def step() -> torch.Tensor:
        first = torch.zeros(1000, 250)  # 1 MB
        second = first + 1  # 2 MB at once
        del first
        return second[:10] + 1

    assert 2_000_000 <= peak_allocation(step) < 2_100_000


def test_calls_are_counted_by_hand() -> None:
    x, layer = torch.randn(1, 3, 5, 5), torch.nn.Conv2d(3, 2, 3)
    with CallCounter() as calls:
        (layer(layer(x)[:, [0, 1, 0]]).flatten(1) @ torch.ones(2, 4)).sum()
    assert (calls.convolutions, calls.products) == (2, 1)


if __name__ == "__main__":
    figures = {f"{name}, {n_shot}-shot": costs(name, n_shot) for name in HEADS for n_shot in (1, 5)}
    KEPT.write_text(json.dumps(figures, indent=1) + "\n")
