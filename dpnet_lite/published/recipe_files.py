"""Recipes: text files that say how the network is trained on a published data set."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dpnet_lite.backbones.backbone import ARCHITECTURES
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.novel import NovelPolicy
from dpnet_lite.published.registry import published
from dpnet_lite.setting_kinds import check_settings

FOLDER = Path(__file__).parent / "recipes"
FIELDS = {"data": str, "backbone": str, "size": int, "novel": str, "epochs": int, "model": dict, "training": dict}


@dataclass(frozen=True)
class Recipe:
    """What a recipe file says.

    Attributes:
        name: of the file, without folder and extension.
        data: name of the published data set.
        backbone: one of ARCHITECTURES.
        size: side of the network's square in pixels.
        novel: what becomes of novel objects in training images.
        epochs: how often every training image is seen, on average; gives the number of steps.
        model: settings of the network.
        training: settings of the training; its `steps` is not used.
    """

    name: str
    data: str
    backbone: str
    size: int
    novel: NovelPolicy
    epochs: int
    model: ModelConfig
    training: TrainingConfig

    def steps(self, n_images: int) -> int:
        """Steps of all epochs for that many training images, at least 1."""
        return max(1, self.epochs * n_images // self.training.batch_size)


def shipped_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_recipe(name: str | Path) -> Recipe:
    """Read a shipped recipe by its name, or a .toml file.

    Raises:
        FileNotFoundError: there is no such recipe or file.
        ValueError: the file is not TOML, lacks a field, has an unknown one, or a wrong value.
    """
    path = Path(name) if str(name).endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {name}; give {', '.join(shipped_recipes())}, or a .toml file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"recipe {path} is not TOML ({error}); mend it") from None
    _check_fields(path, values)
    check_settings(f"recipe {path}", values["model"], values["training"])
    model, training = ModelConfig.from_dict(values["model"]), TrainingConfig.from_dict(values["training"])
    return Recipe(**{**values, "name": path.stem, "model": model, "training": training})


def _check_fields(path: Path, values: Mapping[str, Any]) -> None:
    for field in FIELDS.keys() ^ values.keys():
        problem = "lacks" if field in FIELDS else "has the unknown field"
        raise ValueError(f"recipe {path} {problem} {field}; a recipe has {', '.join(FIELDS)}")
    for field, kind in FIELDS.items():
        if not isinstance(values[field], kind) or isinstance(values[field], bool):
            raise ValueError(f"recipe {path}: {field} is {values[field]!r}; see the shipped recipes for its kind")
    if values["size"] < 32 or values["epochs"] < 1:
        raise ValueError(
            f"recipe {path}: size is {values['size']} and epochs {values['epochs']}; give at least 32 and 1"
        )
    if values["backbone"] not in ARCHITECTURES:
        raise ValueError(f"recipe {path}: backbone is {values['backbone']!r}; give one of {', '.join(ARCHITECTURES)}")
    if values["novel"] not in get_args(NovelPolicy):
        raise ValueError(f"recipe {path}: novel is {values['novel']!r}; give one of {', '.join(get_args(NovelPolicy))}")
    if "steps" in values["training"]:
        raise ValueError(f"recipe {path}: steps follow from epochs; leave them out")
    published(values["data"])
