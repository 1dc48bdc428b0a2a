"""A copy of a published data set on this machine, and where work on it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpnet_lite.experiments.progress import Stages
from dpnet_lite.published.coco import find_year
from dpnet_lite.published.mask_index import MaskedDataset
from dpnet_lite.published.registry import open_published, published
from dpnet_lite.storage.caches import default_cache
from dpnet_lite.storage.files import sha256


@dataclass(frozen=True)
class PublishedCopy:
    """One copy of a published data set, and where things run."""

    name: str
    root: Path
    lists: Path | None = None
    cache_folder: Path | None = None
    device: str = "cpu"
    backbone_weights: Path | str | None = None
    precision: str = "fp32"  # of the backbone
    workers: int = 0  # processes that decode images for training

    def __post_init__(self) -> None:
        if self.lists is not None and not self.lists.is_dir():
            raise ValueError(
                f"--lists is {self.lists}, which is no folder; give the one that holds the lists of all splits, "
                "so that no image is trained on and tested"
            )

    @property
    def hsnet_lists(self) -> Path | None:
        """The folder of HSNet's lists of pairs, for PASCAL-5i, where `lists` holds them."""
        has_them = self.name == "pascal5i" and self.lists is not None and (self.lists / "val").is_dir()
        return self.lists if has_them else None

    @property
    def origin(self) -> str:
        """Which images these are: of what year of COCO, or of what lists."""
        if self.name == "coco20i":
            return f"COCO of {find_year(self.root, published(self.name).test_split)}"
        if self.lists is None:
            return f"{self.name} with its own lists"
        texts = [path.read_bytes() for path in sorted(self.lists.rglob("*.txt"))]
        return f"{self.name} with other lists ({sha256(b' '.join(texts))[:12]})"

    def open(self, split: str, stages: Stages) -> MaskedDataset:
        """One split, its masks counted: this shows a bar the first time, and tells what is broken before the work."""
        dataset = open_published(
            self.name,
            self.root,
            split,
            cache_folder=self.cache_folder or default_cache(),
            lists=self.lists,
            progress=stages(f"counting the masks of {self.name} {split}"),
        )
        dataset.index  # noqa: B018
        return dataset
