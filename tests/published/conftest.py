"""Made-up trees that the tests of this folder read and never write; `copy_of` gives one that may be damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from coco_fss_trees import write_coco, write_fss
from made_up_pascal import PascalTree, write_pascal


@pytest.fixture(scope="session")
def pascal_tree(tmp_path_factory: pytest.TempPathFactory) -> PascalTree:
    """40 training and 40 test images in torchvision's layout, SBD's masks made."""
    return write_pascal(tmp_path_factory.mktemp("pascal"))


@pytest.fixture(scope="session")
def raw_tree(tmp_path_factory: pytest.TempPathFactory) -> PascalTree:
    """20 and 20 images, none of them a photograph, as the archives have it: SBD's masks as .mat alone."""
    return write_pascal(tmp_path_factory.mktemp("raw"), n_train=20, n_val=20, with_images=False, prepared=False)


@pytest.fixture(scope="session")
def coco_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    write_coco(root)
    return root


@pytest.fixture(scope="session")
def fss_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fss")
    write_fss(root)
    return root


@pytest.fixture
def copy_of(tmp_path: Path):
    """A copy of a tree: its root, or a PascalTree whose paths are those of the copy."""

    def copy(tree: Path | PascalTree):
        root = tree.root if isinstance(tree, PascalTree) else tree
        copied = Path(shutil.copytree(root, tmp_path / "copy"))
        if not isinstance(tree, PascalTree):
            return copied
        return PascalTree(copied, copied / tree.base.relative_to(root), *list(vars(tree).values())[2:])

    return copy
