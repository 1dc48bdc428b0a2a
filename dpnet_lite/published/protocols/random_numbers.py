"""Random numbers of a PyTorch loader's workers, and the check that a loop which draws with them ends."""

from __future__ import annotations

import random

import torch

from dpnet_lite.datasets.base import CountedDataset


class LoaderNumbers:
    """Python's random numbers as a PyTorch loader's workers have them, or those of one process (workers = 0)."""

    def __init__(self, seed: int, workers: int) -> None:
        self.workers, self.main = workers, torch.Generator().manual_seed(seed)
        self.generators = [random.Random(seed)]

    def start_pass(self) -> None:
        """Every pass over the loader starts new workers, with a base seed from PyTorch's own random numbers."""
        base_seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.main).item())
        if self.workers:
            self.generators = [random.Random(base_seed + worker) for worker in range(self.workers)]

    def of(self, number: int) -> random.Random:
        """The numbers for item `number` of the pass."""
        return self.generators[number % len(self.generators)]


def need_images(dataset: CountedDataset, pools: dict[int, list[int]], least: int) -> None:
    """Raise ValueError where a class has too few images to end the loop that draws its support."""
    if not pools:
        raise ValueError(f"no image of {dataset.name} shows a class of the fold; choose another fold or data set")
    for class_index, pool in pools.items():
        if len(pool) < least:
            raise ValueError(
                f"class {dataset.class_names[class_index]} has {len(pool)} images to draw from and needs {least}; "
                "choose fewer shots or a larger data set"
            )
