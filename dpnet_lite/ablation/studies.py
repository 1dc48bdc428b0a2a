"""What an ablation compares: a small text file (TOML) that a user can copy and edit.

The shipped ones lie in `studies/`. A variant changes settings of the network or of its training; a condition changes
the test alone (shots, gap, errors in the support masks), so that one trained network is scored under all of them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from dpnet_lite.ablation.masks import MaskEdit
from dpnet_lite.config import ModelConfig, Settings, TrainingConfig, setting

_FOLDER = Path(__file__).parent / "studies"
_Entry = TypeVar("_Entry", bound=Settings)


@dataclass(frozen=True)
class Condition(Settings):
    """How the networks are tested."""

    name: str
    n_shot: int = setting(1, low=1, high=1000)  # support images per test episode
    gap: float | None = None  # 0 to 1, of the toy world's test scenes; None: that of the training scenes
    mask: MaskEdit = "as drawn"  # what happens to the support masks
    pixels: int = setting(0, low=0, high=10_000)  # by how many pixels

    def __post_init__(self) -> None:
        super().__post_init__()
        is_number = isinstance(self.gap, int | float) and not isinstance(self.gap, bool)
        if self.gap is not None and not (is_number and 0 <= self.gap <= 1):
            raise ValueError(f"gap is {self.gap!r}; choose a number from 0 to 1")
        if (self.mask == "as drawn") != (self.pixels == 0):
            raise ValueError(f"mask is {self.mask!r} and pixels {self.pixels}; give pixels with all but 'as drawn'")


@dataclass(frozen=True)
class Variant(Settings):
    """One column of the comparison: a network with its settings, or a rule that needs no training."""

    name: str
    what: str = ""  # for the reader of the report
    method: Literal["trained", "prototypes", "self-support", "nearest pixel"] = "trained"
    model: dict[str, Any] = field(default_factory=dict)  # changes to the ModelConfig of the data's preset
    training: dict[str, Any] = field(default_factory=dict)  # changes to its TrainingConfig
    is_retired: bool = False  # what it was made of is gone: shown where its rows are shipped, but not run again

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.method != "trained" or self.is_retired) and (self.model or self.training):
            raise ValueError(f"variant {self.name!r} needs no training; leave out its model and training settings")
        if not self.name.isprintable() or "|" in self.name:
            raise ValueError(f"variant {self.name!r} has a sign that breaks tables; leave it out")
        _check_settings(f"variant {self.name!r}", self.model, self.training)


@dataclass(frozen=True)
class Comparison(Settings):
    """One question: is `variant` better than `control`?"""

    name: str
    variant: str
    control: str


@dataclass(frozen=True)
class Study(Settings):
    """Variants x conditions x folds x seeds, and the comparisons that answer its question."""

    name: str
    title: str
    question: str
    variants: tuple[Variant, ...]
    comparisons: tuple[Comparison, ...]
    conditions: tuple[Condition, ...] = (Condition("1-shot"),)
    folds: tuple[int, ...] = ()  # all of the data
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    n_episodes: int = setting(500, low=1, high=10_000_000)  # per fold and condition
    model: dict[str, Any] = field(default_factory=dict)  # settings of all variants, on top of the data's preset
    training: dict[str, Any] = field(default_factory=dict)  # and its training's
    toy_training: dict[str, Any] = field(default_factory=dict)  # below these, on the toy world alone

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(
                f"a study is named {self.name!r}; use letters, digits, - and _: a folder is named after it"
            )
        questions: tuple[tuple[str, Sequence[Any]], ...] = (
            ("variants", self.variants), ("conditions", self.conditions), ("comparisons", self.comparisons)
        )  # fmt: skip
        for kind, entries in questions:
            names = [entry.name for entry in entries]
            if not all(names) or len(set(names)) != len(names) or not (names or kind == "comparisons"):
                raise ValueError(f"study {self.name!r} has the {kind} {names}; give at least one, and each name once")
        known = [variant.name for variant in self.variants]
        for comparison in self.comparisons:
            for name in {comparison.variant, comparison.control} - {*known}:
                raise ValueError(
                    f"comparison {comparison.name!r} names the variant {name!r}, which is none of {', '.join(known)}"
                )
            if comparison.variant == comparison.control:
                raise ValueError(
                    f"comparison {comparison.name!r} compares {comparison.variant!r} with itself; name another control"
                )
        for kind, numbers in (("folds", self.folds), ("seeds", self.seeds)):
            if (not numbers and kind == "seeds") or min(numbers, default=0) < 0 or len(set(numbers)) != len(numbers):
                raise ValueError(f"study {self.name!r} has {kind} {list(numbers)}; give each once, from 0")
        _check_settings(f"study {self.name!r}", self.model, self.training)
        _check_settings(f"study {self.name!r}", {}, self.toy_training)

    @property
    def ways(self) -> tuple[slice, ...]:
        """Conditions that are steps along one way; a moved mask is on another than one that is larger or smaller."""
        moved = [condition.mask == "shifted" for condition in self.conditions]
        cuts = [0, *(k for k in range(1, len(moved)) if moved[k] != moved[k - 1]), len(moved)]
        return tuple(slice(low, high) for low, high in pairwise(cuts))

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)

    def without_retired(self) -> Study:
        """What of the study can still be run."""
        variants = tuple(variant for variant in self.variants if not variant.is_retired)
        names = {variant.name for variant in variants}
        asked = tuple(one for one in self.comparisons if {one.variant, one.control} <= names)
        return replace(self, variants=variants, comparisons=asked)


def quick(study: Study) -> Study:
    """The same study in minutes: two folds, two seeds, 60 steps, 100 episodes. For trying out, not as evidence."""
    return replace(
        study,
        title=f"{study.title} (quick: a short training, to try the tool)",
        folds=study.folds[:2] or (0, 1),
        seeds=study.seeds[:2],
        n_episodes=100,
        training={**study.training, "steps": 60},
    )


def shipped_studies() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_study(name: str) -> Study:
    """A shipped study by its name, or one of your own by the path of its file.

    Raises:
        FileNotFoundError, ValueError: there is no such study, or its file has an error (named in one line).
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not path.is_file():
        what = f"file {name}" if name.endswith(".toml") else f"study {name!r}"
        raise FileNotFoundError(
            f"there is no {what}; shipped are {', '.join(shipped_studies())}; or give the path of a .toml file"
        )
    try:
        return _study({"name": path.stem, **tomllib.loads(path.read_text(encoding="utf-8-sig"))})
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except RecursionError:
        raise ValueError(f"{path}: its lists or tables lie too deep in each other; write it as a shipped one") from None
    except ValueError as error:  # TOML that cannot be read among them
        raise ValueError(f"{path}: {error}") from None


def _study(values: dict[str, Any]) -> Study:
    """A study from the content of its file."""
    kinds: dict[str, type[Settings]] = {"condition": Condition, "variant": Variant, "comparison": Comparison}
    for key, kind in kinds.items():
        tables = values.pop(key, None)
        if f"{key}s" in values or not isinstance(tables, list | None):
            raise ValueError(f"the study lists its {key}s otherwise; write [[{key}]] for each")
        if tables is not None:
            values[f"{key}s"] = tuple(_made(kind, table, f"a [[{key}]]") for table in tables)
    if not values.get("comparisons"):
        raise ValueError("the study compares nothing; add a [[comparison]] with name, variant and control")
    return _made(Study, values, "the study")


def _made(kind: type[_Entry], table: Mapping[str, Any], where: str) -> _Entry:
    for item in fields(kind):  # type: ignore[arg-type]
        if item.default is item.default_factory is MISSING and item.name not in table:
            raise ValueError(f"{where} lacks {item.name!r}")
    try:
        return kind.from_dict(table)
    except ValueError as error:
        raise ValueError(f"{where} is wrong: {error}") from None


def _check_settings(where: str, model: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """A wrong name, kind or value is told before any run."""
    pairs: Iterable[tuple[Settings, Mapping[str, Any]]] = ((ModelConfig(), model), (TrainingConfig(), training))
    for defaults, changes in pairs:
        defaults.changed(changes, where)
    if "seed" in training:
        raise ValueError(f"{where} sets the seed of a training; name seeds in the study, such as seeds = [1, 2]")
