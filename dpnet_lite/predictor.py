"""Segmenting one's own images: load a trained network, show it a few masks, predict.

predictor = Predictor.load("photographs")  # comes with the package; also "toy", or a path
predictor.set_support(["cat1.jpg", "cat2.jpg"], ["cat1.png", "cat2.png"])
result = predictor.predict("garden.jpg")
result.mask        # uint8 [H, W] at the image's own size
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from dpnet_lite.backbones.backbone import Backbone
from dpnet_lite.backbones.devices import check_device
from dpnet_lite.backbones.replay import Replay
from dpnet_lite.checkpoints import DPNET_ALONE, Networks, load_trained
from dpnet_lite.datasets.images import ImageLike, MaskLike, to_image, to_mask
from dpnet_lite.datasets.transforms import check_size, normalise, resize_image
from dpnet_lite.model.dpnet import DPNet, Trace
from dpnet_lite.model.episode_batch import EpisodeBatch, Output
from dpnet_lite.model.prototypes import masks_at


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image of H x W pixels."""

    mask: np.ndarray  # uint8 [H, W]: 0 background, k the k-th class given to set_support
    probabilities: np.ndarray  # float32 [n_classes + 1, H, W], background first, sums to 1
    class_names: tuple[str, ...]
    traces: tuple[Trace, ...]  # one a class where asked for, else empty


class _Class:
    """A class's support set, with what a head makes of it alone, and the head's answers to queries [1, D, h, w]."""

    @torch.no_grad()
    def __init__(self, head: nn.Module, batch: EpisodeBatch) -> None:
        known = {"support": head.encode_support(batch)} if isinstance(head, DPNet) else {}  # rivals have no such

        def output(query: Tensor, **options: Any) -> Output:
            answer: Output = head(batch._replace(query_features=query), batch.cells, **known, **options)
            return answer

        self.output, self.logits = output, Replay(lambda query: output(query).logits, head)


class Predictor:
    """A trained head with its backbone; support features are computed once and reused for every image."""

    def __init__(self, head: nn.Module, backbone: Backbone, *, size: int, device: str | torch.device = "cpu") -> None:
        if not isinstance(head, nn.Module) or not isinstance(backbone, Backbone):
            kinds = f"a {type(head).__name__} and a {type(backbone).__name__}"
            raise ValueError(f"head and backbone are {kinds}; give networks, or use Predictor.load")
        self.device, self.size = torch.device(check_device(device)), check_size(size)
        self.head, self.backbone = head.to(self.device).eval(), backbone.to(self.device)
        self._support: dict[str, _Class] = {}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        backbone_weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        networks: Networks = DPNET_ALONE,
    ) -> Self:
        """Rebuild the network of a checkpoint, or of a name of `shipped_head`; foreign backbone weights are named.
        `networks` are those that the checkpoint may hold; `ablation/rivals.py` knows more than DPNet.

        Raises:
            FileNotFoundError, ValueError: the file is missing, damaged, or was trained on another backbone.
        """
        trained = load_trained(path, backbone_weights=backbone_weights, device=device, networks=networks)
        return cls(trained.head, trained.backbone, size=trained.size, device=device)

    def set_support(
        self,
        images: Sequence[ImageLike] | Mapping[str, Sequence[ImageLike]],
        masks: Sequence[MaskLike] | Mapping[str, Sequence[MaskLike]],
    ) -> Self:
        """Show the network one class (two lists of K) or several (two mappings from class name to such lists).

        Masks have their image's height and width; any value above 0 is foreground, 255 included. What the head makes of
        them is kept: call it again if the head's weights change.

        Raises:
            ValueError: the numbers of images and masks differ, a mask does not fit its image or is empty, or there are
                more than 255 classes.
        """
        if isinstance(images, Mapping) != isinstance(masks, Mapping):
            raise ValueError("images and masks must both be lists (one class) or both mappings by class name")
        image_sets = images if isinstance(images, Mapping) else {"foreground": images}
        mask_sets = masks if isinstance(masks, Mapping) else {"foreground": masks}
        if not image_sets or set(image_sets) != set(mask_sets):
            raise ValueError(f"images name {list(image_sets)}, masks name {list(mask_sets)}; name the same classes")
        if len(image_sets) > 255:
            raise ValueError(f"images name {len(image_sets)} classes; 255 fit the numbers of the mask (uint8)")
        encoded = {name: self._encode(name, image_sets[name], mask_sets[name]) for name in image_sets}
        self._support = {name: _Class(self.head, batch) for name, batch in encoded.items()}
        return self

    @torch.no_grad()
    def predict(self, image: ImageLike, *, trace: bool = False) -> Prediction:
        """Segment one image of any size.

        With several classes, one binary pass each. A class's logit is its margin, the foreground's less the
        background's of its own pass; the background's is 0; the largest decides (ours). So a pixel is background
        where every pass says so, and a class that is absent does not weigh on the others.
        """
        if not self._support:
            raise ValueError("no support is set; call set_support(images, masks) first")
        if self.head.training:
            raise ValueError("the network is in training mode; call head.eval(), then set_support")
        pixels = to_image(image)
        height, width = int(pixels.shape[1]), int(pixels.shape[2])
        query = self._features(pixels[None])
        scores, traces = [], []
        for known in self._support.values():
            if trace:
                output = known.output(query, trace=True)
                traces += [output.trace] if output.trace is not None else []
            scores.append(output.logits[0] if trace else known.logits(query)[0])  # [2, h, w]
        stacked = torch.stack(scores)  # [n_classes, 2, h, w]
        margins = stacked[:, 1] - stacked[:, 0]  # [n_classes, h, w]
        logits = torch.cat([torch.zeros_like(margins[:1]), margins])  # [n_classes + 1, h, w]
        if not bool(logits.isfinite().all()):
            raise ValueError("the network gives NaN or infinity for this image; load its checkpoint anew")
        logits = functional.interpolate(logits[None].float(), (height, width), mode="bilinear", align_corners=False)[0]
        probabilities = logits.softmax(dim=0).cpu().numpy()
        mask = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
        return Prediction(mask, probabilities, tuple(self._support), tuple(traces))

    def _features(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, H, W] -> float32 [n, D, h, w] of the squashed images."""
        return self.backbone(normalise(resize_image(images, self.size)).to(self.device))

    @torch.no_grad()
    def _encode(self, name: str, images: Sequence[ImageLike], masks: Sequence[MaskLike]) -> EpisodeBatch:
        """An episode with a class's support set; its first image stands in for a query, of which nothing is known."""
        images, masks = _listed(images), _listed(masks)
        if len(images) != len(masks) or len(images) == 0:
            raise ValueError(f"{name} has {len(images)} images and {len(masks)} masks; give one mask per image")
        features, shares = [], []
        for number, (image, mask) in enumerate(zip(images, masks, strict=True), start=1):
            pixels = to_image(image)
            path = f" ({mask})" if isinstance(mask, str | Path) else ""
            what = f"support mask {number}{path} of {name}"
            try:
                foreground = to_mask(mask)
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from None
            if pixels.shape[1:] != foreground.shape:
                sizes = f"{list(foreground.shape)}, its image {list(pixels.shape[1:])}"
                raise ValueError(f"{what} is {sizes}; give a mask of the image's height and width")
            if not bool(foreground.any()):
                raise ValueError(f"{what} is empty; mark the object with values above 0")
            if bool(foreground.all()):
                warnings.warn(f"{what} covers its whole image, so that no background is shown", stacklevel=4)
            features.append(self._features(pixels[None])[0])
            cells = (features[-1].shape[-2], features[-1].shape[-1])
            shares.append(masks_at(foreground, cells).to(self.device))
        support, shown = torch.stack(features)[None], torch.stack(shares)[None]  # [1, K, D, h, w] and [1, K, h, w]
        unknown = torch.full((1, *shown.shape[-2:]), 255, device=self.device)
        return EpisodeBatch(support, shown, 1 - shown, support[:, 0], unknown)


def _listed(items: Any) -> list[Any]:
    """Several images or masks as a list; ValueError for a single one, and for what has no order."""
    is_list = isinstance(items, Iterable) and not isinstance(items, str | bytes | IOBase | Set)
    if not is_list or getattr(items, "ndim", 1) == 0:
        given = type(items).__name__
        raise ValueError(f"a {given} was given; give lists, also of a single image: set_support([image], [mask])")
    return list(items)
