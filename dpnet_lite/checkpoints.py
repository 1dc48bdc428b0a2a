"""Checkpoints: safetensors with a JSON sidecar, and the trained networks in them, verified when read.

A checkpoint's metadata and a digest of its tensors stand in the safetensors header. The weight file thus proves itself,
and is all that is read; the sidecar is for people and other tools.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

import dpnet_lite
from dpnet_lite.backbones.backbone import ARCHITECTURES, Backbone, build_backbone
from dpnet_lite.backbones.devices import check_device
from dpnet_lite.config import BACKBONE_PRECISIONS, BACKBONES, ModelConfig
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.storage.files import (
    check_tensors,
    digest_tensors,
    load_tensors,
    require_file,
    require_kinds,
    sha256,
    without_module,
    write_atomically,
)

Networks = Mapping[str, Callable[[ModelConfig, int, int], nn.Module]]  # what builds the network that a config names
DPNET_ALONE: Networks = {"dpnet": DPNet}
_SHIPPED = Path(__file__).parent / "weights"
_FORMAT = 1
_RECORD = {"format": int, "metadata": dict, "tensors_sha256": str}
_HEAD: Mapping[str, Any] = {
    "model": dict, "backbone": BACKBONES, "backbone_fingerprint": str, "precision": BACKBONE_PRECISIONS,
    "size": range(1, 10**5), "data": str, "fold": int | None, "base_classes": list,
    "n_folds": range(2, 256), "layout": ("interleaved", "blocked"),  # the last five may be missing
}  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide what the numbers are."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "dpnet_lite": dpnet_lite.__version__,
    }


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Path:
    """Write `tensors` to path (.safetensors) and `metadata` to the .json beside it, each atomically; returns the path.

    tensors: any dtypes, devices and strides, finite; "module." and "_orig_mod." go where all names have them. metadata:
    what JSON holds (tuples come back as lists, keys as texts), without the keys "format" and "sha256" (of the weight
    file), which the sidecar adds. ValueError for anything else.
    """
    path, tensors = Path(path), without_module(tensors)
    if path.suffix != ".safetensors":
        raise ValueError(f"checkpoint {path} must end in .safetensors")
    if reserved := {"format", "sha256"} & metadata.keys():
        raise ValueError(f"metadata must not use the key {min(reserved)!r}, which the sidecar adds")
    try:
        plain = {n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
        check_tensors(safetensors.torch.load(safetensors.torch.save(plain)), path)  # what cannot be read is not saved
    except ValueError:
        raise
    except Exception as error:  # of tensors without numbers in each place, or names that the format keeps for itself
        reason = str(error).partition("\n")[0]
        raise ValueError(f"tensors for {path} cannot be saved ({reason}); give dense ones, by their names") from error
    record = {"format": _FORMAT, "metadata": metadata, "tensors_sha256": digest_tensors(plain)}
    try:
        record_text = json.dumps(record, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata of {path} does not fit into JSON: {error}") from error
    # One key: safetensors writes several in no fixed order, and the same weights shall give the same file.
    data = safetensors.torch.save(plain, {"record": sha256(record_text.encode()) + record_text})
    sidecar = {"format": _FORMAT, "sha256": sha256(data), **metadata}
    write_atomically(path, data)
    write_atomically(path.with_suffix(".json"), (json.dumps(sidecar, indent=2) + "\n").encode())
    return path


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read (tensors, metadata) written by save_checkpoint, the tensors on `device`; the sidecar is not needed.

    path: a file, or a name of `shipped_head`. Raises FileNotFoundError where there is no such file, ValueError for one
    that is cut off, altered, of another format version or not a checkpoint of this project.
    """
    device, name = check_device(device), str(path)  # None has a name, too: of no file
    own, path = shipped_head(name), Path(name)
    is_own = own.parent == _SHIPPED and os.path.isfile(own)
    if not is_own and not path.suffix:
        raise FileNotFoundError(f"{name:.99} is no file and no name of shipped weights; these are photographs, toy ...")
    path = require_file(own if is_own else path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} does not end in .safetensors; give a checkpoint of this project")
    tensors = load_tensors(path)
    with safetensors.safe_open(path, framework="pt") as file:
        stored = file.metadata() or {}
    if "record" not in stored:
        raise ValueError(f"{path} holds weights but is no DPNet Lite checkpoint: give one that it saved")
    text, digest = stored["record"], stored.get("record_sha256")
    if digest is None:  # in two keys in older files
        text, digest = text[64:], text[:64]
    if sha256(text.encode()) != digest:
        raise ValueError(f"{path} is damaged (SHA-256 of its header differs): restore it or train again")
    record: Any = None
    with suppress(ValueError, RecursionError):
        record = json.loads(text)
    require_kinds(record, _RECORD, f"{path} is damaged: restore it or train again")
    if record["format"] != _FORMAT:
        raise ValueError(f"{path} has format {record['format']!r}, this version reads {_FORMAT}: update dpnet-lite")
    if record["tensors_sha256"] != digest_tensors(tensors):
        raise ValueError(f"{path} is damaged (SHA-256 of its tensors differs): restore it or train again")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, record["metadata"]


def shipped_head(name: int | str) -> Path:
    """Path of weights that come with the package, by a fold of the toy world, 0 to 3, or by name: "photographs", "toy"
    (fold 0), and these without a part, as "photographs_support_only"; the files in `dpnet_lite/weights` are all.
    """
    return _SHIPPED / f"{'toy_fold0' if name == 'toy' else f'toy_fold{name}' if name in range(4) else name}.safetensors"


def save_head(
    path: str | Path, head: nn.Module, backbone: Backbone, *, size: int, half: bool = False, **facts: Any
) -> Path:
    """Write a trained network with its config, its backbone's name and fingerprint, the image size, versions and facts.

    `facts` is what else a reader needs: step, data set, fold, hash of the episodes, training config, scores.
    With `half` the weights are rounded to float16, which halves the file; `load_head` gives float32 again. ValueError
    for facts with which it could not, and for another backbone than the head's.
    """
    config: Any = head.config
    metadata = {
        "what": "DPNet head",
        "model": config.to_dict(),
        "backbone": backbone.name,
        "backbone_fingerprint": backbone.fingerprint,
        "precision": backbone.precision,
        "size": size,
        "versions": versions(),
        **facts,
    }
    if (taken := getattr(head, "in_channels", backbone.out_channels)) != backbone.out_channels:
        raise ValueError(
            f"the head takes {taken} channels, {backbone.name} gives {backbone.out_channels}; give its own"
        )
    _check_head(json.loads(json.dumps(metadata, default=str)), f"{path} could not be read again: give other facts")
    tensors = {name: tensor.half() if half else tensor for name, tensor in head.state_dict().items()}
    return save_checkpoint(path, tensors, metadata)


def _check_head(metadata: dict[str, Any], damage: str) -> None:
    """ValueError, with `damage`, for metadata of no head."""
    require_kinds({"data": "", "base_classes": [], "n_folds": 4, "layout": "interleaved", **metadata}, _HEAD, damage)
    for name in metadata.get("base_classes", ()):
        require_kinds({"a base class": name}, {"a base class": str}, damage)


def load_head(
    path: str | Path, *, device: str | torch.device = "cpu", networks: Networks = DPNET_ALONE
) -> tuple[Any, dict[str, Any]]:
    """Rebuild a trained network, in eval mode, from its checkpoint alone; also gives its metadata.

    Raises FileNotFoundError, ValueError: missing or damaged file, or a checkpoint of something else.
    """
    tensors, metadata = load_checkpoint(path)
    if metadata.get("what") != "DPNet head":
        raise ValueError(f"{path} holds {metadata.get('what', 'something')!r}, not a DPNet head; give a head's file")
    damage = f"{path} is no whole head for this version, {dpnet_lite.__version__}: restore it, update, or train again"
    _check_head(metadata, damage)
    if (network := str(metadata["model"].get("network", "dpnet"))) not in networks:
        raise ValueError(f"{path} holds the network {network!r}; what is known here: {', '.join(networks)}")
    sizes, weights = ARCHITECTURES[metadata["backbone"]][1:3], {n: tensor.float() for n, tensor in tensors.items()}
    try:
        config = ModelConfig.from_dict(metadata["model"])
        with torch.device("meta"):  # shapes first: a record may ask for any room
            networks[network](config, *sizes).load_state_dict(weights, assign=True)
        head = networks[network](config, *sizes)
        head.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:  # PyTorch begins with a line that says nothing
        raise ValueError(f"{damage} ({str(error).splitlines()[:2][-1].strip()})") from None
    return head.to(check_device(device)).eval(), metadata


@dataclass(frozen=True)
class Trained:
    """A trained network with the backbone that it was trained on."""

    head: Any  # DPNet, or a rival
    backbone: Backbone
    size: int  # side of the input in pixels
    metadata: dict[str, Any]


def load_trained(
    path: str | Path,
    *,
    backbone_weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    networks: Networks = DPNET_ALONE,
) -> Trained:
    """Rebuild a network and its backbone from a checkpoint; weights of one's own are named by `backbone_weights`.

    Raises:
        FileNotFoundError, ValueError: the file is missing, damaged, or was trained on another backbone.
    """
    head, metadata = load_head(path, device=device, networks=networks)
    name, precision = metadata["backbone"], metadata["precision"]
    backbone = build_backbone(name, backbone_weights, device=device, precision=precision)
    if backbone.fingerprint != metadata["backbone_fingerprint"]:
        raise ValueError(
            f"{path} was trained on other {name} weights than those given; "
            "name the same file with backbone_weights (--backbone-weights)"
        )
    return Trained(head, backbone, int(metadata["size"]), metadata)
