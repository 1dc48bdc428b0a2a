"""Settings of the network and of its training: two frozen dataclasses, saved beside the weights.

Every default is the project's reconstruction; `docs/method.md` says of each whether the paper states it, a
public relative does it, or it is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args

Network = Literal["dpnet", "panet", "ssp"]
Selection = Literal["support_first", "query_first", "soft", "threshold", "top_k", "oracle"]
SelectionFeatures = Literal["reduced", "backbone"]
ShotFusion = Literal["average", "joint"]
Interaction = Literal["correlation", "joint", "agreement", "gate", "parts", "off"]
Fusion = Literal["pyramid", "single", "aspp"]
Comparison = Literal["features", "both", "similarity"]
Auxiliary = Literal["support", "query", "none"]
Schedule = Literal["cosine", "poly"]
Optimiser = Literal["adamw", "sgd"]
Precision = Literal["32-true", "bf16-mixed", "64-true"]


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; choose a number from {low} to {high}")


class _Settings:
    """Round trip of a settings dataclass through a plain dictionary."""

    added_later: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """All settings but those of `added_later` at their defaults: results of older code keep their names."""
        values: dict[str, Any] = self.all_settings()
        defaults = {field.name: field.default for field in fields(self)}  # type: ignore[arg-type]
        return {n: value for n, value in values.items() if n not in self.added_later or value != defaults[n]}

    def all_settings(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild the settings; a name that does not exist is a ValueError."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"{cls.__name__} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


@dataclass(frozen=True)
class ModelConfig(_Settings):
    """What the network is made of. Symbols: C channels, P prototype, P_q pseudo-prototype."""

    network: Network = "dpnet"  # or a rival: after PANet, after SSP; these use channels, dropout, auxiliary alone
    channels: int = 64  # C, width of the head
    dropout: float = 0.1  # share of the reduced feature channels dropped in training

    pseudo_prototype: bool = True  # False: P stands in for P_q everywhere (the support-only rival)
    selection: Selection = "support_first"  # how CCM picks reliable query pixels
    selection_features: SelectionFeatures = "reduced"  # features that CCM compares: head's or frozen backbone's
    selection_threshold: float = 0.7  # cosine with P, for selection "threshold"
    selection_count: int = 12  # pixels, for selection "top_k"
    selection_temperature: float = 0.02  # cosine units, for selection "soft" and for weighted pooling
    weighted_pooling: bool = True  # weigh selected pixels by exp(cosine with P / selection_temperature)
    consensus_rounds: int = 2  # mean-shift rounds that let the selected pixels agree on one object
    consensus_temperature: float = 0.04  # cosine units
    shot_fusion: ShotFusion = "average"  # K shots: average K pseudo-prototypes, or one CCM over all K * N pixels

    interaction: Interaction = "joint"  # PIM, see model/prototype_interaction.py
    n_parts: int = 4  # part prototypes per image, for interaction "parts"

    fusion: Fusion = "aspp"  # MSF: dilated convolutions (ASPP), a top-down pyramid, or a single scale
    scales: tuple[float, ...] = (
        1.0,
        0.5,
        0.25,
        0.125,
    )  # sides of the pyramid's levels, as shares of the feature's
    comparison: Comparison = "both"  # what a level compares: feature vectors, cosine maps, or both
    background: bool = True  # also compare with the support's background prototype
    prior: bool = False  # a training-free prior, after PFENet's, as one more map
    score_shortcut: bool = False  # add the training-free score to the logits, with a learned weight

    auxiliary: Auxiliary = "query"  # training only: P' segments the query coarsely, P_q' the support, or none

    def __post_init__(self) -> None:
        choices = {
            "network": Network,
            "selection": Selection,
            "selection_features": SelectionFeatures,
            "shot_fusion": ShotFusion,
            "interaction": Interaction,
            "fusion": Fusion,
            "comparison": Comparison,
            "auxiliary": Auxiliary,
        }
        for name, allowed in choices.items():
            _check_choice(name, getattr(self, name), get_args(allowed))
        wrong = {"panet": "query", "ssp": "support"}.get(self.network)
        if self.auxiliary == wrong:
            other = "support" if wrong == "query" else "query"
            raise ValueError(f"auxiliary is {wrong!r}, but the network {self.network!r} has {other!r} or 'none'")
        _check_range("channels", self.channels, 4, 4096)
        _check_range("dropout", self.dropout, 0.0, 0.95)
        _check_range("selection_threshold", self.selection_threshold, -1.0, 1.0)
        _check_range("selection_count", self.selection_count, 1, 1_000_000)
        _check_range("selection_temperature", self.selection_temperature, 1e-4, 100.0)
        _check_range("consensus_rounds", self.consensus_rounds, 0, 100)
        _check_range("consensus_temperature", self.consensus_temperature, 1e-4, 100.0)
        _check_range("n_parts", self.n_parts, 1, 64)
        if not self.scales or any(not 0.0 < scale <= 1.0 for scale in self.scales):
            raise ValueError(f"scales is {self.scales}; give one or more numbers above 0 and up to 1")
        if list(self.scales) != sorted(self.scales, reverse=True) or self.scales[0] != 1.0:
            raise ValueError(f"scales is {self.scales}; start at 1.0 and go down")


@dataclass(frozen=True)
class TrainingConfig(_Settings):
    """How the head is trained. The backbone is frozen throughout."""

    steps: int = 1000  # optimiser steps
    batch_size: int = 8  # episodes per step, over all processes
    n_shot: int = 1  # support images per training episode
    learning_rate: float = 2e-3  # peak, after warm-up
    weight_decay: float = 1e-2  # AdamW's, or SGD's
    warmup_steps: int = 50
    schedule: Schedule = "cosine"  # after warm-up: half a cosine to 0, or poly with power 0.9
    gradient_clip: float = 1.0  # largest norm of the gradient
    foreground_weight: float = 1.0  # weight of foreground pixels in both cross-entropies; IoU asks for more than 1
    auxiliary_weight: float = 1.0  # lambda in CE(main) + lambda CE(auxiliary)
    flip: bool = True  # mirror query and support at random, independently
    precision: Precision = "32-true"
    checkpoint_every: int = 250  # steps; 0 writes only at the end
    validate_every: int = 0  # steps between scores on held-out base classes; 0: take the last weights
    n_held_out: int = 0  # base classes kept from training for choosing the checkpoint
    seed: int = 0

    optimiser: Optimiser = "adamw"
    momentum: float = 0.9  # SGD's
    accumulate: int = 1  # parts that a process takes its share of a step in, to save memory
    compile: bool = False  # torch.compile the head
    # Augmentation, where training reads images rather than kept features (see `augmentation.py`).
    scale: float = 0.0  # 0.1 scales by 0.9 to 1.1
    rotation: float = 0.0  # largest angle in degrees
    blur: float = 0.0  # share of the images that are blurred
    min_pixels: int = 0  # of the class at the image's own size, for data sets that count them

    added_later: ClassVar[tuple[str, ...]] = (
        "optimiser",
        "momentum",
        "accumulate",
        "compile",
        "scale",
        "rotation",
        "blur",
        "min_pixels",
    )

    def __post_init__(self) -> None:
        _check_choice("schedule", self.schedule, get_args(Schedule))
        _check_choice("optimiser", self.optimiser, get_args(Optimiser))
        _check_choice("precision", self.precision, get_args(Precision))
        for name in ("steps", "batch_size", "n_shot", "accumulate"):
            _check_range(name, getattr(self, name), 1, 10_000_000)
        for name in ("warmup_steps", "checkpoint_every", "validate_every", "n_held_out"):
            _check_range(name, getattr(self, name), 0, 10_000_000)
        _check_range("learning_rate", self.learning_rate, 1e-8, 10.0)
        _check_range("weight_decay", self.weight_decay, 0.0, 1.0)
        _check_range("gradient_clip", self.gradient_clip, 1e-6, 1e6)
        _check_range("foreground_weight", self.foreground_weight, 0.01, 100.0)
        _check_range("auxiliary_weight", self.auxiliary_weight, 0.0, 100.0)
        _check_range("momentum", self.momentum, 0.0, 0.9999)
        _check_range("scale", self.scale, 0.0, 0.9)
        _check_range("rotation", self.rotation, 0.0, 180.0)
        _check_range("blur", self.blur, 0.0, 1.0)
        _check_range("min_pixels", self.min_pixels, 0, 10_000_000)
        if (self.validate_every > 0) != (self.n_held_out > 0):
            raise ValueError(
                f"validate_every is {self.validate_every} and n_held_out {self.n_held_out}; set both or neither: "
                "checkpoints are chosen on held-out base classes only"
            )
