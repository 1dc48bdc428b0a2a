"""Settings of the network and of its training: two frozen dataclasses, saved beside the weights.

Every default is the project's reconstruction; `docs/method.md` says of each whether the paper states it, a
public relative does it, or it is our choice. All settings of the project are checked here, wherever they come from:
Python, a checkpoint, a file, the command line. (Ours rather than pydantic's: the core shall run where only PyTorch is.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from numbers import Number
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

BACKBONES = ("tiny", "resnet50", "resnet101", "resnet50_v2", "resnet101_v2", "vgg16", "mobilenet_v2")
BACKBONE_PRECISIONS = ("fp32", "bf16")  # of the frozen backbone's convolutions
Precision = Literal["32-true", "bf16-mixed", "64-true"]  # of the training
_WORDS: Mapping[type[Any], str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes",
    dict: "a table, such as { steps = 500 }",
}  # fmt: skip
_LIST_WORDS = {int: "a list of whole numbers, such as [1, 2]", float: "a list of numbers, such as [1.0, 0.5]"}


def setting(default: Any, *, low: float, high: float) -> Any:
    """A field that holds a number from `low` to `high`."""
    return field(default=default, metadata={"range": (low, high)})


class Settings:
    """A dataclass whose fields are checked: kinds by their annotations, choices by Literal, ranges by `setting`."""

    retired: ClassVar[Mapping[str, Any]] = {}  # settings of older checkpoints, at the only value that is still read

    def __post_init__(self) -> None:
        for name, kind in _kinds(type(self)).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))
        for item in fields(self):  # type: ignore[arg-type]
            if "range" in item.metadata:
                value, (low, high) = getattr(self, item.name), item.metadata["range"]
                if not low <= value <= high:
                    raise ValueError(f"{item.name} is {value}; choose a number from {low} to {high}")

    def to_dict(self) -> dict[str, Any]:
        """All settings, as JSON can hold them."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild the settings from `to_dict`; what is missing has its default.

        Raises:
            ValueError: a name does not exist, or a value does not fit.
        """
        for name, last in cls.retired.items():
            if values.get(name, last) != last:
                raise ValueError(f"{name} is {values[name]!r}: that was retired, only {last!r} is left; train anew")
        return cls._new({name: value for name, value in values.items() if name not in cls.retired})

    @classmethod
    def _new(cls, values: Mapping[str, Any]) -> Self:
        known = _kinds(cls)
        for name in sorted(values.keys() - known.keys()):
            raise ValueError(f"{cls.__name__} has no setting {name!r}; it has {', '.join(sorted(known))}")
        return cls(**values)

    def changed(self, values: Mapping[str, Any], where: str = "") -> Self:
        """The same settings with those of `values`, all at once; an error begins with `where` they stand."""
        try:
            return self._new({**vars(self), **values})
        except ValueError as error:
            raise ValueError(f"{where}: {error}" if where else str(error)) from None

    def with_texts(self, changes: Sequence[str]) -> Self:
        """Apply texts "name=value", as typed on a command line, all at once: some settings must fit each other."""
        values: dict[str, Any] = {}
        known = _kinds(type(self))
        for change in changes:
            name, equals, text = change.partition("=")
            if not equals or name not in known:
                raise ValueError(f"{change!r} is no setting; give NAME=VALUE with a name of {', '.join(known)}")
            old = getattr(self, name)
            try:
                value = _read(text, type(old))
            except (KeyError, ValueError):
                raise ValueError(f"{change!r} does not fit; the value now is {old!r}") from None
            if values.setdefault(name, value) != value:
                raise ValueError(f"{change!r} comes after {name}={values[name]}; give each setting once")
        return self._new({**vars(self), **values})


def _kinds(settings: Any) -> dict[str, Any]:
    """The annotation of every field."""
    hints = get_type_hints(settings)
    return {item.name: hints[item.name] for item in fields(settings)}


def _checked(name: str, value: Any, kind: Any) -> Any:
    """The value of a setting in its own type; ValueError where it is of another kind or no choice of a Literal."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(get_args(kind))}")
        return value
    if isinstance(value, Number) and hasattr(value, "item"):  # NumPy's numbers, which JSON cannot hold
        value = value.item()
    kind, items = get_origin(kind) or kind, get_args(kind)
    if kind is tuple:
        if not isinstance(value, list | tuple) or not all(_fits(item, items[0]) for item in value):
            raise ValueError(f"{name} is {value!r}; give {_LIST_WORDS.get(items[0], 'a list')}")
        return tuple(value)
    if kind in _WORDS and not _fits(value, kind):
        raise ValueError(f"{name} is {value!r}; give {_WORDS[kind]}")
    return value


def _fits(value: Any, kind: type[Any]) -> bool:
    """Whether a value is of a kind; whole numbers will do as numbers, true and false as neither."""
    wanted = (int, float) if kind is float else kind
    return isinstance(value, wanted) and (kind is bool or not isinstance(value, bool))


def _read(text: str, kind: type[Any]) -> Any:
    if kind is bool:
        return {"true": True, "false": False}[text.lower()]
    if kind is tuple:
        return tuple(number(part) for part in text.split(","))
    return number(text, kind) if kind in (int, float) else kind(text)


def number(text: str, kind: type[Any] = float) -> Any:
    """A number as it is typed; ValueError for what Python's own readers take besides: 1_0, " 5", other digits, nan."""
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.ASCII | re.IGNORECASE):
        raise ValueError(f"{text!r} is no number; give one such as 3 or 0.5")
    return kind(text)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """What the network is made of. Symbols: C channels, P prototype, P_q pseudo-prototype."""

    retired: ClassVar[Mapping[str, Any]] = {"shot_fusion": "average", "n_parts": 4}

    network: str = "dpnet"  # or a rival's name; see ablation/rivals.py
    channels: int = setting(64, low=4, high=4096)  # C, width of the head
    dropout: float = setting(0.1, low=0.0, high=0.95)  # share of the reduced feature channels dropped in training

    pseudo_prototype: bool = True  # False: P stands in for P_q everywhere (the support-only rival)
    # How CCM picks reliable query pixels, and whose features it compares: the head's or the frozen backbone's.
    selection: Literal["support_first", "query_first", "threshold", "top_k", "oracle"] = "support_first"
    selection_features: Literal["reduced", "backbone"] = "reduced"
    selection_threshold: float = setting(0.7, low=-1.0, high=1.0)  # cosine with P, for selection "threshold"
    selection_count: int = setting(12, low=1, high=1_000_000)  # pixels, for selection "top_k"
    selection_temperature: float = setting(0.02, low=1e-4, high=100.0)  # cosine units, for weighted pooling
    weighted_pooling: bool = True  # weigh selected pixels by exp(cosine with P / selection_temperature)
    consensus_rounds: int = setting(2, low=0, high=100)  # mean shift: the selected pixels agree on one object
    consensus_temperature: float = setting(0.04, low=1e-4, high=100.0)  # cosine units

    interaction: Literal["joint", "correlation", "off"] = "joint"  # PIM, see model/prototype_interaction.py

    # MSF: dilated convolutions (ASPP), a top-down pyramid, or a single scale.
    fusion: Literal["aspp", "pyramid", "single"] = "aspp"
    scales: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)  # sides of the pyramid's levels, as shares of the feature's
    comparison: Literal["features", "both", "similarity"] = "both"  # feature vectors, cosine maps, or both
    background: bool = True  # also compare with the support's background prototype
    prior: bool = False  # a training-free prior, after PFENet's, as one more map
    score_shortcut: bool = False  # add the training-free score to the logits, with a learned weight

    auxiliary: Literal["query", "support", "none"] = "query"  # training only: P' segments the query, P_q' the support

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales or any(not 0.0 < scale <= 1.0 for scale in self.scales):
            raise ValueError(f"scales is {self.scales}; give one or more numbers above 0 and up to 1")
        if list(self.scales) != sorted(self.scales, reverse=True) or self.scales[0] != 1.0:
            raise ValueError(f"scales is {self.scales}; start at 1.0 and go down")


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """How the head is trained. The backbone is frozen throughout."""

    steps: int = setting(1000, low=1, high=10_000_000)  # optimiser steps
    batch_size: int = setting(8, low=1, high=10_000_000)  # episodes per step, over all processes
    n_shot: int = setting(1, low=1, high=10_000_000)  # support images per training episode
    learning_rate: float = setting(2e-3, low=1e-8, high=10.0)  # times the shares of warm-up and schedule, see losses.py
    weight_decay: float = setting(1e-2, low=0.0, high=1.0)  # AdamW's, or SGD's
    warmup_steps: int = setting(50, low=0, high=10_000_000)
    schedule: Literal["cosine", "poly"] = "cosine"  # from step 0 on: half a cosine to 0, or poly with power 0.9
    gradient_clip: float = setting(1.0, low=1e-6, high=1e6)  # largest norm of the gradient
    # Weight of foreground pixels in both cross-entropies; IoU asks for more than 1.
    foreground_weight: float = setting(1.0, low=0.01, high=100.0)
    auxiliary_weight: float = setting(1.0, low=0.0, high=100.0)  # lambda in CE(main) + lambda CE(auxiliary)
    overlap_weight: float = setting(0.0, low=0.0, high=100.0)  # mu in + mu (1 - soft IoU), every episode alike
    flip: bool = True  # mirror query and support at random, independently
    precision: Precision = "32-true"
    checkpoint_every: int = setting(250, low=0, high=10_000_000)  # steps; 0 writes only at the end
    # Steps between scores on held-out base classes; 0: take the last weights.
    validate_every: int = setting(0, low=0, high=10_000_000)
    n_held_out: int = setting(0, low=0, high=10_000_000)  # base classes kept aside for choosing the checkpoint
    seed: int = setting(0, low=0, high=2**63 - 1)  # what PyTorch takes

    optimiser: Literal["adamw", "sgd"] = "adamw"
    momentum: float = setting(0.9, low=0.0, high=0.9999)  # SGD's
    accumulate: int = setting(1, low=1, high=10_000_000)  # parts that a process takes its share of a step in
    compile: bool = False  # torch.compile the head
    # Augmentation, where training reads images rather than kept features (see published/augmentation.py).
    scale: float = setting(0.0, low=0.0, high=0.9)  # 0.1 scales by 0.9 to 1.1
    rotation: float = setting(0.0, low=0.0, high=180.0)  # largest angle in degrees
    blur: float = setting(0.0, low=0.0, high=1.0)  # share of the images that are blurred
    # Of the class at the image's own size, for data sets that count pixels.
    min_pixels: int = setting(0, low=0, high=10_000_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.validate_every > 0) != (self.n_held_out > 0):
            raise ValueError(
                f"validate_every is {self.validate_every} and n_held_out {self.n_held_out}; set both or neither: "
                "checkpoints are chosen on held-out base classes only"
            )
