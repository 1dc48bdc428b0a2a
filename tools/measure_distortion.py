"""Measure what a perfect prediction loses under the protocols that pad, on the masks of a folder.

python tools/measure_distortion.py MASKS --ids FILE [--limit N] [--write]

MASKS holds index masks (PNG, 0 background, 255 ignored), such as VOC's SegmentationClassAug; FILE names the masks to
take, one a line. With --write the tables also go into docs/protocols.md, between their marks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor
from tqdm import tqdm
from write_protocols import PAGE, markdown, put_between

from dpnet_lite.datasets.images import read_mask
from dpnet_lite.experiments.tables import aligned
from dpnet_lite.published.protocols.counting import protocol_counts
from dpnet_lite.published.protocols.distortion import PerfectCounts, perfect_counts
from dpnet_lite.published.protocols.scoring import protocol_score
from dpnet_lite.published.protocols.specs import PROTOCOLS

CELLS = 60  # of the network's answer, as at 473 pixels and stride 8
SIZES = (("small, below 2 %", 0.0, 0.02), ("medium, 2 to 10 %", 0.02, 0.1), ("large, from 10 %", 0.1, 1.1))


def objects(folder: Path, ids: list[str]) -> Iterator[tuple[int, Tensor]]:
    """Class index and binary labels, uint8 [H, W] with 255, of every class in every mask."""
    for name in ids:
        mask = read_mask(folder / f"{name}.png")
        for value in torch.unique(mask).tolist():
            if value not in (0, 255):
                yield value - 1, (mask == value).to(torch.uint8).masked_fill_(mask == 255, 255)


def coarse_logits(labels: Tensor) -> Tensor:
    """Share of foreground in each of 60 x 60 cells, less a half, as logits [2, 60, 60]: sure only inside an object."""
    share = functional.adaptive_avg_pool2d((labels == 1).float()[None], CELLS) - 0.5
    return torch.cat([-share, share])


def perfect_table(shares: np.ndarray, perfect: list[PerfectCounts]) -> list[list[str]]:
    """IoU by size of the object: pixels added up, and (in brackets) the mean over objects."""
    rows = [["object's share of the image", "objects", "pfenet", "put back in its place", "without rounding to 8"]]
    for label, low, high in SIZES:
        chosen = [counts for share, counts in zip(shares, perfect, strict=True) if low <= share < high]
        cells = []
        for way in zip(*chosen, strict=True):
            counts = torch.stack(way).double()  # [objects, 4]
            added, mean = counts[:, 0].sum() / counts[:, 1].sum(), (counts[:, 0] / counts[:, 1]).mean()
            cells.append(f"{added:.3f} ({mean:.3f})")
        rows.append([label, str(len(chosen)), *cells])
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="take the first N masks only")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/protocols.md")
    arguments = parser.parse_args()
    ids = arguments.ids.read_text().split()[: arguments.limit]
    shares, classes, perfect = [], [], []
    coarse: dict[str, list[Tensor]] = {name: [] for name in PROTOCOLS}
    for class_index, labels in tqdm(objects(arguments.masks, ids), unit=" objects"):
        shares.append(float((labels == 1).float().mean()))
        classes.append(class_index)
        perfect.append(perfect_counts(PROTOCOLS["pfenet"], labels))
        logits = coarse_logits(labels)
        for name, protocol in PROTOCOLS.items():
            coarse[name].append(protocol_counts(protocol, logits, labels))
    rows = [["the same coarse prediction", *PROTOCOLS], ["mIoU"], ["FB-IoU"]]
    for name, protocol in PROTOCOLS.items():
        miou, fb_iou = protocol_score(protocol, np.array(classes), torch.stack(coarse[name]).numpy())
        rows[1].append(f"{miou:.3f}")
        rows[2].append("-" if np.isnan(fb_iou) else f"{fb_iou:.3f}")
    tables = {"distortion": perfect_table(np.array(shares), perfect), "coarse": rows}
    for mark, table in tables.items():
        print(aligned(table))
        if arguments.write:
            PAGE.write_text(put_between(PAGE.read_text(encoding="utf-8"), mark, markdown(table)), encoding="utf-8")


if __name__ == "__main__":
    main()
