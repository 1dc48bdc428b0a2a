"""What an ablation compares: a small text file (TOML) that a user can copy and edit.

The shipped ones lie in `studies/`. A variant changes settings of the network or of its training; a condition changes
the test alone (shots, gap, errors in the support masks), so that one trained network is scored under all of them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from dpnet_lite.ablation.masks import MaskEdit
from dpnet_lite.setting_kinds import NUMBER, TABLE, TEXT, WHOLE, WHOLES, check_settings, kind_of

SHIPPED = Path(__file__).parent / "studies"
Method = Literal["trained", "prototypes", "self-support", "nearest pixel"]
Entry = TypeVar("Entry", "Condition", "Variant", "Comparison")
LISTS = ("condition", "variant", "comparison")
LISTS_OF_ENTRIES = tuple(f"{name}s" for name in LISTS)
KINDS = {  # of what stands in a file; all else is text
    "folds": WHOLES,
    "seeds": WHOLES,
    "n_episodes": WHOLE,
    "n_shot": WHOLE,
    "pixels": WHOLE,
    "gap": NUMBER,
    "model": TABLE,
    "training": TABLE,
}


@dataclass(frozen=True)
class Condition:
    """How the networks are tested."""

    name: str
    n_shot: int = 1  # support images per test episode
    gap: float | None = None  # of the toy world's test scenes; None: that of the training scenes
    mask: MaskEdit = "as drawn"  # what happens to the support masks
    pixels: int = 0  # by how many pixels

    def __post_init__(self) -> None:
        if self.n_shot < 1 or self.pixels < 0 or (self.gap is not None and not 0 <= self.gap <= 1):
            raise ValueError(
                f"condition {self.name!r} has n_shot {self.n_shot}, gap {self.gap}, pixels {self.pixels}; "
                "n_shot starts at 1, pixels at 0, gap lies in 0 to 1"
            )
        if self.mask not in get_args(MaskEdit) or (self.mask == "as drawn") != (self.pixels == 0):
            raise ValueError(
                f"condition {self.name!r} has mask {self.mask!r} and pixels {self.pixels}; give one of "
                f"{', '.join(get_args(MaskEdit))}, and pixels with all but the first"
            )


@dataclass(frozen=True)
class Variant:
    """One column of the comparison: a network with its settings, or a rule that needs no training."""

    name: str
    what: str = ""  # for the reader of the report
    method: Method = "trained"
    model: dict[str, Any] = field(default_factory=dict)  # changes to the ModelConfig of the data's preset
    training: dict[str, Any] = field(default_factory=dict)  # changes to its TrainingConfig

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(
                f"variant {self.name!r} has method {self.method!r}; choose one of {', '.join(get_args(Method))}"
            )
        if self.method != "trained" and (self.model or self.training):
            raise ValueError(f"variant {self.name!r} needs no training; leave out its model and training settings")
        check_settings(f"variant {self.name!r}", self.model, self.training)


@dataclass(frozen=True)
class Comparison:
    """One question: is `variant` better than `control`?"""

    name: str
    variant: str
    control: str


@dataclass(frozen=True)
class Study:
    """Variants x conditions x folds x seeds, and the comparisons that answer its question."""

    name: str
    title: str
    question: str
    variants: tuple[Variant, ...]
    comparisons: tuple[Comparison, ...]
    conditions: tuple[Condition, ...] = (Condition("1-shot"),)
    folds: tuple[int, ...] = (0, 1, 2, 3)
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    n_episodes: int = 500  # per fold and condition
    model: dict[str, Any] = field(default_factory=dict)  # settings of all variants, on top of the data's preset
    training: dict[str, Any] = field(default_factory=dict)  # budget on the toy world, the same for all variants

    @property
    def ways(self) -> tuple[slice, ...]:
        """Conditions that are steps along one way; a moved mask is on another than one that is larger or smaller."""
        moved = [condition.mask == "shifted" for condition in self.conditions]
        cuts = [0, *(k for k in range(1, len(moved)) if moved[k] != moved[k - 1]), len(moved)]
        return tuple(slice(low, high) for low, high in pairwise(cuts))

    def __post_init__(self) -> None:
        for kind, entries in (("variant", self.variants), ("condition", self.conditions)):
            names = [entry.name for entry in entries]
            if not names or len(set(names)) != len(names):
                raise ValueError(f"study {self.name!r} has the {kind}s {names}; give at least one, and each name once")
        known = {variant.name for variant in self.variants}
        for comparison in self.comparisons:
            for name in (comparison.variant, comparison.control):
                if name not in known:
                    raise ValueError(
                        f"comparison {comparison.name!r} names the variant {name!r}, which is none of "
                        f"{', '.join(sorted(known))}"
                    )
        for name, values, least in (
            ("folds", self.folds, 0),
            ("seeds", self.seeds, 0),
            ("n_episodes", [self.n_episodes], 1),
        ):
            if not values or min(values) < least or len(set(values)) != len(values):
                raise ValueError(f"study {self.name!r} has {name} {list(values)}; give each once, from {least}")
        check_settings(f"study {self.name!r}", self.model, self.training)

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)


def quick(study: Study) -> Study:
    """The same study in minutes: two folds, two seeds, 60 steps, 100 episodes. For trying out, not as evidence."""
    return replace(
        study,
        title=f"{study.title} (quick: a short training, to try the tool)",
        folds=study.folds[:2],
        seeds=study.seeds[:2],
        n_episodes=100,
        training={**study.training, "steps": 60},
    )


def shipped_studies() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_study(name: str) -> Study:
    """A shipped study by its name, or one of your own by the path of its file.

    Raises:
        FileNotFoundError, ValueError: there is no such study, or its file has an error (named in one line).
    """
    path = Path(name) if name.endswith(".toml") else SHIPPED / f"{name}.toml"
    if not path.is_file():
        what = f"file {name}" if name.endswith(".toml") else f"study {name!r}"
        raise FileNotFoundError(
            f"there is no {what}; shipped are {', '.join(shipped_studies())}; or give the path of a .toml file"
        )
    try:
        return study_from(tomllib.loads(path.read_text(encoding="utf-8")), path.stem)
    except (tomllib.TOMLDecodeError, ValueError, TypeError) as error:
        raise ValueError(f"{path.name}: {error}") from None


def study_from(values: Mapping[str, Any], name: str) -> Study:
    """Build a study from the content of its file."""
    kinds: tuple[type[Any], ...] = (Condition, Variant, Comparison)
    plain = {key: value for key, value in values.items() if key not in LISTS}
    clash = {f"{key}s" for key in LISTS} & plain.keys()
    if clash:
        raise ValueError(f"the study has {min(clash)!r}; write [[{min(clash)[:-1]}]] for each")
    plain |= {key: tuple(value) for key, value in plain.items() if isinstance(value, list)}
    for key, kind in zip(LISTS, kinds, strict=True):
        if key in values or key != "condition":
            plain[f"{key}s"] = tuple(_entries(kind, key, values.get(key, [])))
    study = Study(**_known(Study, {"name": name, **plain}, "the study"))
    if not study.comparisons:
        raise ValueError("the study compares nothing; add a [[comparison]] with name, variant and control")
    for comparison in study.comparisons:
        if comparison.variant == comparison.control:
            raise ValueError(
                f"comparison {comparison.name!r} compares {comparison.variant!r} with itself; name another control"
            )
    return study


def _entries(kind: type[Entry], key: str, tables: Sequence[Mapping[str, Any]]) -> list[Entry]:
    if not isinstance(tables, list):
        raise ValueError(f"{key} must be a list of tables: write [[{key}]]")
    return [kind(**_known(kind, table, f"a [[{key}]]")) for table in tables]


def _known(kind: type[Any], table: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    names = [entry.name for entry in fields(kind)]
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise ValueError(f"{where} has {unknown[0]!r}; it knows {', '.join(names)}")
    for key, value in table.items():
        wanted = KINDS.get(key, TEXT)
        if key not in LISTS_OF_ENTRIES and kind_of(value) != wanted and (kind_of(value), wanted) != (WHOLE, NUMBER):
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(f"{where} has {key} {shown!r}; give {wanted}")
    missing = [n for n in ("name", "variant", "control", "title", "question") if n in names and n not in table]
    if missing:
        raise ValueError(f"{where} lacks {missing[0]!r}")
    return table
