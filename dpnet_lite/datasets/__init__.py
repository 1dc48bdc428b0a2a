"""Data sets: the built-in toy world and photographs, folders of photographs, unions of them, and what they share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpnet_lite.datasets.base import SegmentationDataset

OBJECTS_FOLDER = Path(__file__).parent.parent / "objects"
OBJECTS_CREDIT = "Photographs: the DreamBooth data set (its authors), CC BY 4.0, resized, compressed; masks made here."


def objects() -> SegmentationDataset:
    """The photographs that come with the package: 67 of 13 objects, each before four to six backgrounds, 384 x 384.

    Their credit, `OBJECTS_CREDIT`, belongs wherever one is shown; `SOURCES.md` beside them names the photographers.
    """
    from dpnet_lite.datasets.folder import FolderDataset

    return FolderDataset(OBJECTS_FOLDER, name="objects")
