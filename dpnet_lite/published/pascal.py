"""PASCAL-5i: VOC2012 and SBD as one data set of 20 classes; fold i has the novel classes 5i to 5i + 4 (from 0).

train is VOC2012 train united with SBD train_noval, without VOC2012 val: 5,953 images. val is VOC2012 val: 1,449.
Where VOC2012 has a mask of its own, that mask counts and not SBD's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from dpnet_lite.datasets.images import read_mask
from dpnet_lite.features import Progress
from dpnet_lite.published.list_files import ClassPair, read_hsnet_fold, read_ids, read_pfenet_list
from dpnet_lite.published.mask_index import MaskedDataset, files_sha256

_NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant "
    "sheep sofa train tvmonitor"
)
VOC_CLASSES = tuple(_NAMES.split())
PREPARE = "dpnet-lite data prepare pascal5i"
_ARCHIVE = "VOC2012's trainval archive"
_ORIGINS = {
    "train.txt": _ARCHIVE,
    "val.txt": _ARCHIVE,
    "train_noval.txt": "SBD, beside its archive (torchvision's SBDataset names its address)",
}


class PascalFolders:
    """Where the parts of a copy lie under `root`, in torchvision's layout or in the common one.

    `base` is root/VOCdevkit/VOC2012 or root/VOC2012 where that is a folder, else `root` itself. `sbd` is root/sbd, or
    benchmark_RELEASE/dataset in root or root/sbd, as SBD's archive unpacks, whichever has cls/. Images are looked for
    in base/JPEGImages, then in sbd/img. Masks are looked for in base/SegmentationClass, where VOC's own masks stay
    in torchvision's layout (nothing is copied), then in base/SegmentationClassAug.

    Raises FileNotFoundError: there is no folder `root`.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is not a folder; give the one that holds VOCdevkit or JPEGImages")
        candidates = (self.root / "VOCdevkit" / "VOC2012", self.root / "VOC2012")
        self.base = next((folder for folder in candidates if folder.is_dir()), self.root)
        released = self.root / "benchmark_RELEASE" / "dataset"
        places = (self.root / "sbd", released, self.root / "sbd" / "benchmark_RELEASE" / "dataset")
        self.sbd = next((folder for folder in places if (folder / "cls").is_dir()), places[0])
        self.images = (self.base / "JPEGImages", self.sbd / "img")
        self.made_masks = self.base / "SegmentationClassAug"
        self.masks = (self.base / "SegmentationClass", self.made_masks)
        self.voc_lists = self.base / "ImageSets" / "Segmentation"

    @cached_property
    def mask_names(self) -> dict[str, Path]:
        """Path of the mask of every id that has one."""
        found: dict[str, Path] = {}
        for folder in reversed(self.masks):  # the first folder has the last word
            if folder.is_dir():
                found.update((path.stem, path) for path in folder.iterdir() if path.suffix == ".png")
        return found

    @cached_property
    def voc_ids(self) -> frozenset[str]:
        """Ids of VOC2012's train and val, whose masks come with VOC; of an absent list none."""
        paths = [self.list_path(name) for name in ("train.txt", "val.txt")]
        return frozenset(name for path in paths if path is not None for name in read_pfenet_list(path))

    def remedy(self, missing: Sequence[str]) -> str:
        """How to get the masks of these ids; SBD's mask of an image of VOC's would be another one."""
        own = [name for name in missing if name in self.voc_ids]
        if own:
            return f"VOC2012's own are among them, such as that of {own[0]}: unpack its trainval archive again"
        made = "with --download, which gets those too, where they are not there"
        return f"SBD's are made from the .mat files in {self.sbd / 'cls'} by: {PREPARE} ({made})"

    def image_path(self, name: str) -> Path:
        """Path of an image: the first that exists, or the one where it should be."""
        paths = [folder / f"{name}.jpg" for folder in self.images]
        return next((path for path in paths if path.is_file()), paths[0])

    def list_path(self, name: str) -> Path | None:
        """Path of train.txt, val.txt or train_noval.txt; None where it is absent."""
        is_sbd = name == "train_noval.txt"
        folders = (self.root / "sbd", self.sbd, self.voc_lists, self.base, self.root) if is_sbd else (self.voc_lists,)
        return next((folder / name for folder in folders if (folder / name).is_file()), None)

    def read_split(self, split: str) -> tuple[str, ...]:
        """Ids of a split by the rule of this module, sorted.

        Raises FileNotFoundError: a list that the rule needs is absent; names it and says where it comes from.
        """
        val = self._read_list("val.txt")
        if split == "val":
            return tuple(sorted(val))
        return tuple(sorted((self._read_list("train.txt") | self._read_list("train_noval.txt")) - val))

    def _read_list(self, name: str) -> set[str]:
        path = self.list_path(name)
        if path is None:
            place = self.root / "sbd" if name == "train_noval.txt" else self.voc_lists
            raise FileNotFoundError(
                f"there is no {place / name}; it comes with {_ORIGINS[name]}, or give lists (--lists)"
            )
        return set(read_pfenet_list(path))


class Pascal5i(MaskedDataset):
    """One split of PASCAL-5i, ordered by id: all 20 classes, whatever the fold.

    Args:
        root: a copy in one of the layouts of `PascalFolders`. The images may be absent: counting needs masks alone,
            and a missing image is an error only when it is read.
        split: "train" or "val".
        lists: ids instead of VOC's and SBD's own lists: a file, or a folder (see `read_ids`).
        cache_folder: where the counts are kept; None keeps none.
        progress: wraps the loop that counts the masks on first use.

    Raises FileNotFoundError: a folder or list is absent, or an image of the list has no mask; ValueError: an unknown
    split or a bad line of a list. On first use: a mask is broken.
    """

    class_names = VOC_CLASSES

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        lists: str | Path | None = None,
        cache_folder: Path | None = None,
        progress: Progress = iter,
    ) -> None:
        if split not in ("train", "val"):
            raise ValueError(f"split is {split!r}; choose one of train, val")
        self.folders = PascalFolders(root)
        self.name, self.split = f"pascal5i-{split}", split
        self.ids = self.folders.read_split(split) if lists is None else read_ids(lists, split)
        self.mask_paths = _pair_masks(self.ids, self.folders)
        self._cache_folder, self._progress = cache_folder, progress

    def _content(self) -> str:
        return files_sha256(self.mask_paths)

    def image_path(self, index: int) -> Path:
        """The first place that has the image. Raises FileNotFoundError: none has."""
        path = self.folders.image_path(self.ids[index])
        if not path.is_file():
            raise FileNotFoundError(f"there is no image {path}; it comes with {_ARCHIVE}")
        return path

    def read_labels(self, index: int) -> Tensor:
        """uint8 [H, W]: 0 background, k is class k - 1, 255 ignored. The image is not read."""
        return read_mask(self.mask_paths[index], of_voc=True)


def fold_pairs(
    lists: Path, fold: int, novel: Sequence[int], ids: Sequence[str], pixels: np.ndarray
) -> list[tuple[int, int]]:
    """(image index, class index) pairs of a fold of val, in HSNet's order, from the folder of its lists.

    `novel` are the classes of the fold; `ids` and `pixels`, int32 [n_images, 20], those of val. ValueError: a pair is
    of another fold, of no image of val, or of a class that its image does not show.
    """
    places = {name: row for row, name in enumerate(ids)}

    def fault_of(pair: ClassPair) -> str | None:
        name = VOC_CLASSES[pair.class_index]
        if pair.class_index not in novel:
            return f"{name} is no class of fold {fold}; move the line to the file of its fold"
        if pair.id not in places:
            return f"the list of val does not name {pair.id}; add it there, or remove this line"
        is_shown = pixels[places[pair.id], pair.class_index]
        return None if is_shown else f"the mask of {pair.id} shows no {name}; remove the line, or get the list again"

    return [(places[pair.id], pair.class_index) for pair in read_hsnet_fold(lists, "val", fold, fault_of)]


def refuse_shared(train: Sequence[str], val: Sequence[str]) -> None:
    """ValueError where images would be trained on and tested."""
    if shared := sorted({*train} & {*val}):
        text = f"train and val share {len(shared):,} images, first {shared[0]}"
        raise ValueError(f"{text}; give a folder with a list of each")


def _pair_masks(ids: Sequence[str], folders: PascalFolders) -> list[Path]:
    """Path of the mask of every id."""
    if not folders.mask_names:
        raise FileNotFoundError(
            f"{folders.base} has no masks in SegmentationClassAug or SegmentationClass; give another root, "
            f"or run: {PREPARE}"
        )
    missing = [name for name in ids if name not in folders.mask_names]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(ids)} images have no mask, first {missing[0]}; {folders.remedy(missing)}"
        )
    return [folders.mask_names[name] for name in ids]
