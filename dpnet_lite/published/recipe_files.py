"""Recipes: text files that say how the network is trained on a published data set."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dpnet_lite.config import BACKBONES, ModelConfig, Settings, TrainingConfig, setting
from dpnet_lite.datasets.novel import NovelPolicy
from dpnet_lite.published.registry import PublishedName

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """What a recipe file says."""

    name: str  # of the file, without folder and extension
    data: PublishedName
    backbone: str  # one of BACKBONES
    size: int = setting(473, low=32, high=10_000)  # side of the network's square in pixels
    novel: NovelPolicy  # what becomes of novel objects in training images
    # How often every training image is seen, on average; gives the number of steps.
    epochs: int = setting(200, low=1, high=100_000)
    model: ModelConfig
    training: TrainingConfig  # its `steps` is not used

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone is {self.backbone!r}; choose one of {', '.join(BACKBONES)}")

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
    path = Path(name).expanduser() if str(name).endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {name}; give {', '.join(shipped_recipes())}, or a .toml file")
    try:
        return _recipe(path.stem, tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"recipe {path} is not TOML ({error}); mend it") from None
    except ValueError as error:
        raise ValueError(f"recipe {path}: {error}") from None


def _recipe(name: str, values: dict[str, Any]) -> Recipe:
    names = [field.name for field in fields(Recipe) if field.name != "name"]
    for field in {*names} ^ values.keys():
        problem = "lacks" if field in names else "has the unknown field"
        raise ValueError(f"it {problem} {field}; a recipe has {', '.join(names)}")
    for part, defaults in (("model", ModelConfig()), ("training", TrainingConfig())):
        if not isinstance(values[part], dict):
            raise ValueError(f"{part} is {values[part]!r}; give a table, such as [{part}]")
        for key, why in (("steps", "follow from epochs"), ("seed", "is given by --seed")):
            if key in values[part]:
                raise ValueError(f"{key} {why}; leave it out")
        values[part] = defaults.changed(values[part])
    return Recipe(name=name, **values)
