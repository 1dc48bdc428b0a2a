"""The toy world: a procedural few-shot segmentation data set with a dial for the support-query gap.

80 few-shot classes = 8 outlines x 10 textures ("striped star", "dotted kite", ...), and 80 auxiliary classes
that share neither an outline nor a texture with them, for pretraining the tiny backbone. No files, no
download. The whole world is our choice; its reason is that support-query diversity is the obstacle that the
paper names (stated).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from dpnet_lite.datasets.base import DatasetDefaults, Sample
from dpnet_lite.datasets.toy_outlines import AUXILIARY_OUTLINES, CLASS_OUTLINES
from dpnet_lite.datasets.toy_scene import (
    Appearance,
    PlacedObject,
    draw_appearance,
    draw_background,
    draw_light,
    object_mask,
    paint_scene,
)
from dpnet_lite.datasets.toy_textures import AUXILIARY_TEXTURES, CLASS_TEXTURES

DEFAULT_GAP = 0.5
DEFAULT_SIZE = 96
_INSTANCES = (0.5, 0.35, 0.15)  # shares of scenes with one, two and three objects of the main class
WORLD_VERSION = 1  # raise it when the drawing changes, so that cached features and episode hashes change too
CATALOGUES = {
    "classes": (CLASS_OUTLINES, CLASS_TEXTURES),
    "auxiliary": (AUXILIARY_OUTLINES, AUXILIARY_TEXTURES),
}


def catalogue_names(catalogue: str = "classes") -> tuple[str, ...]:
    """Names of a catalogue's 80 classes; class index = 10 * outline + texture."""
    outlines, textures = CATALOGUES[catalogue]
    return tuple(f"{texture} {outline}" for outline in outlines for texture in textures)


class ToyWorld(DatasetDefaults):
    """A deterministic set of scenes; scene i is the same in every process for the same settings.

    Args:
        length: number of scenes.
        seed: world seed; scenes of different seeds share nothing but the classes.
        targets: class indices that take turns as a scene's main class (default: all 80).
        others: class indices of the distractors (default: `targets`).
        gap: how far a scene's appearance may stray from the canonical one, in [0, 1].
        size: side of the square scene in pixels.
        catalogue: "classes" or "auxiliary".

    `class_areas` (float32 [length, 80]) and the scenes are drawn on first use and kept in memory
    (27 kB + 9 kB a scene at 96 px).
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        targets: Sequence[int] | None = None,
        others: Sequence[int] | None = None,
        gap: float = DEFAULT_GAP,
        size: int = DEFAULT_SIZE,
        catalogue: str = "classes",
    ) -> None:
        if catalogue not in CATALOGUES:
            raise ValueError(f"catalogue is {catalogue!r}; choose one of {', '.join(CATALOGUES)}")
        if not 0.0 <= gap <= 1.0:
            raise ValueError(f"gap is {gap}; choose a number from 0 (alike) to 1 (far apart)")
        for what, number, lowest in (("length", length, 1), ("size", size, 32), ("seed", seed, 0)):
            if not isinstance(number, int | np.integer) or number < lowest:
                raise ValueError(f"{what} is {number!r}; give a whole number of at least {lowest}")
        self.class_names = catalogue_names(catalogue)
        self.targets = tuple(range(len(self.class_names)) if targets is None else targets)
        self.others = self.targets if others is None else tuple(others)
        for index in (*self.targets, *self.others):
            if not 0 <= index < len(self.class_names):
                raise ValueError(f"class index {index} is not in 0 to {len(self.class_names) - 1}")
        if not self.targets or not self.others:
            raise ValueError("targets and others must each hold at least one class index")
        self.length, self.seed, self.gap, self.size, self.catalogue = length, seed, gap, size, catalogue
        self.name = "toy"
        self._scenes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._class_areas: np.ndarray | None = None

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that determines the scenes."""
        targets, others = (tuple(map(int, classes)) for classes in (self.targets, self.others))  # not NumPy's
        numbers = (int(self.length), int(self.seed), targets, others, float(self.gap), int(self.size))
        settings = (WORLD_VERSION, *numbers)
        return hashlib.sha256(repr((*settings, self.catalogue)).encode()).hexdigest()

    @property
    def class_areas(self) -> np.ndarray:
        """Share of each scene's pixels that each class covers, float32 [length, n_classes]."""
        if self._class_areas is None:
            n_classes = len(self.class_names)
            counts = [np.bincount(self._scene(i)[1].ravel(), minlength=n_classes + 1)[1:] for i in range(len(self))]
            self._class_areas = (np.stack(counts) / self.size**2).astype(np.float32)
        return self._class_areas

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        image, labels = self._scene(index)
        # Copies: whoever changes a sample in place must not change the world.
        return Sample(torch.tensor(image).permute(2, 0, 1).contiguous(), torch.tensor(labels))

    def _scene(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index not in self._scenes:
            self._scenes[index] = self._draw(index)
        return self._scenes[index]

    def plan(self, index: int) -> tuple[PlacedObject, ...]:
        """The objects of scene `index` in the order of painting: a later one hides an earlier one. Nothing is painted.

        Raises:
            IndexError: the world has no such scene.
        """
        return self._plan(index)[0]

    def _plan(self, index: int) -> tuple[tuple[PlacedObject, ...], np.random.Generator]:
        """The objects, and the random numbers that go on with the background."""
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} is not in 0 to {self.length - 1}")
        rng = np.random.default_rng((WORLD_VERSION, self.seed, index))
        main = self.targets[index % len(self.targets)]
        classes = [main] * int(rng.choice(3, p=_INSTANCES) + 1) + self._distractors(main, rng)
        looks = {c: draw_appearance(c, self.gap, rng) for c in dict.fromkeys(classes)}
        objects = self._place(classes, looks, rng)
        visible, full = np.zeros((self.size, self.size), dtype=bool), 0
        for item in objects:
            mask = object_mask(item, self.size)
            is_main = item.class_index == main
            visible, full = (visible | mask, full + int(mask.sum())) if is_main else (visible & ~mask, full)
        if visible.sum() < 0.5 * full:  # too well hidden: bring it to the front
            objects.sort(key=lambda item: item.class_index == main)
        return tuple(objects), rng

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        objects, rng = self._plan(index)
        background, light = draw_background(self.size, rng), draw_light(self.gap, rng)
        return paint_scene(background, objects, light, rng)

    def _distractors(self, main: int, rng: np.random.Generator) -> list[int]:
        """One that shares the main outline or its texture (where there is such), and one or two more."""
        n_textures = len(CATALOGUES[self.catalogue][1])
        pool = [c for c in self.others if c != main]
        same_outline = [c for c in pool if c // n_textures == main // n_textures]
        same_texture = [c for c in pool if c % n_textures == main % n_textures]
        alike = same_outline if rng.uniform() < 0.5 else same_texture
        groups = [group for group in (alike, pool) if group]
        if pool and rng.uniform() < 0.5:
            groups.append(pool)
        return [int(rng.choice(group)) for group in groups]

    def _place(self, classes: list[int], looks: dict[int, Appearance], rng: np.random.Generator) -> list[PlacedObject]:
        outlines, textures = (tuple(part.items()) for part in CATALOGUES[self.catalogue])
        placed: list[PlacedObject] = []
        for class_index in classes:
            radius = self.size * rng.uniform(0.14, 0.25)
            spots = rng.uniform(0.6 * radius, self.size - 0.6 * radius, (8, 2))
            taken = np.array([item.centre for item in placed]).reshape(-1, 2)
            room = np.linalg.norm(spots[:, None] - taken[None], axis=2).min(axis=1, initial=np.inf)
            spot = spots[int(np.argmax(room))] if len(placed) else spots[0]
            placed.append(
                PlacedObject(
                    class_index=class_index,
                    outline=outlines[class_index // len(textures)][1],
                    texture=textures[class_index % len(textures)][1],
                    appearance=looks[class_index],
                    centre=(float(spot[0]), float(spot[1])),
                    radius=float(radius),
                    extra_turn=float(rng.uniform(-0.2, 0.2) + self.gap * rng.uniform(-0.6, 0.6)),
                )
            )
        order = rng.permutation(len(placed))
        return [placed[i] for i in order]
