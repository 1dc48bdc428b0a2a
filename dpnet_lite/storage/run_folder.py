"""The folder of one training run: its state for resuming, and its log."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dpnet_lite.storage.files import require_file, require_kinds, sha256, told, write_atomically

_STATE_MAGIC = b"dpnet-lite training state 1\n"
_PARTS = {"losses": list, "validation": list, "identity": dict}  # PyTorch checks the others, when it loads them


class RunFolder:
    """`state.bin` and `log.jsonl` of a run; with `path` None, or in all processes but the first, nothing is written."""

    def __init__(self, path: str | Path | None, *, writes: bool = True) -> None:
        self.path, self.writes = None if path is None else Path(path), writes and path is not None

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state, atomically."""
        if self.writes and self.path is not None:
            save_training_state(self.path / "state.bin", state)

    def log(self, rows: Sequence[Mapping[str, float]], *, anew: bool = False) -> None:
        """Add rows to the log, or begin it again with them."""
        if self.writes and self.path is not None:
            with told(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                with (self.path / "log.jsonl").open("w" if anew else "a") as log:
                    log.writelines(json.dumps(row) + "\n" for row in rows)

    def refuse_stopped_run(self) -> None:
        """ValueError where a run was stopped here: it is not overwritten because somebody forgot --resume."""
        if self.path is None or not (self.path / "state.bin").exists():
            return
        state = _whole_state(self.path)
        steps = state["identity"]["training"]["steps"]
        if state["step"] < steps:
            raise ValueError(
                f"{self.path} holds a run stopped at step {state['step']} of {steps}; "
                "go on with --resume, or delete that folder to start anew"
            )

    def restore(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """The saved state.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it belongs to a run of another identity; the message names what differs.
        """
        if self.path is None or not (self.path / "state.bin").exists():
            raise FileNotFoundError(f"nothing to resume in {self.path}; leave out --resume to start anew")
        state = _whole_state(self.path)
        for part, value in identity.items():
            saved = state["identity"].get(part)
            if saved != value:
                raise ValueError(
                    f"{self.path} was trained with {_difference(part, saved, value)}; "
                    "resume with the same settings, or train anew with another --out"
                )
        return state


def _whole_state(folder: Path) -> dict[str, Any]:
    """The state in a folder; ValueError where it is damaged, or a part of it is missing or of another kind."""
    state, damage = load_training_state(folder / "state.bin"), f"{folder} holds no whole state: delete it to start anew"
    require_kinds(state, _PARTS, damage)
    training = state["identity"].get("training")
    require_kinds(training, {"steps": int}, damage)
    require_kinds(state, {"step": range(training["steps"] + 1)}, damage)
    for row in [*state["losses"], *state["validation"]]:
        require_kinds(row, {"step": int}, damage)
    return state


def _difference(part: str, saved: Any, given: Any) -> str:
    """What two identities do not share: "steps 100 (now 200)", or the part's name where it has no fields."""
    if not (isinstance(saved, dict) and isinstance(given, dict)):
        return f"other {part}{', as other photographs and masks give them' if part == 'episodes' else ''}"
    names = [name for name in saved | given if saved.get(name) != given.get(name)]
    told = [f"{name} {saved.get(name, 'by default')} (now {given.get(name, 'the default')})" for name in names]
    return ", ".join(told) or f"other {part}"


def save_training_state(path: str | Path, state: dict[str, Any]) -> Path:
    """Write optimiser and training state atomically, bit for bit, under a SHA-256; returns the path.

    state: tensors, numbers, strings, bytes and None in dicts, lists and tuples. Nothing else can be read back without
    running pickled code, so anything else (a NumPy array, an object) raises ValueError here.
    """
    path, buffer = Path(path), io.BytesIO()
    try:
        torch.save(state, buffer)
        payload = buffer.getvalue()
        torch.load(io.BytesIO(payload), weights_only=True)
    except Exception as error:  # pickling foreign objects can raise anything
        raise ValueError(
            f"training state for {path} holds more than tensors and plain Python values: "
            "convert NumPy arrays and other objects to those first"
        ) from error
    write_atomically(path, _STATE_MAGIC + sha256(payload).encode() + b"\n" + payload)
    return path


def load_training_state(path: str | Path) -> dict[str, Any]:
    """Read what save_training_state wrote, tensors on the CPU (random states must stay there).

    Raises FileNotFoundError for a missing file, ValueError for one that is cut off, altered or another thing.
    """
    data = require_file(path).read_bytes()
    start = len(_STATE_MAGIC) + 65  # the digest in hex and a line feed
    payload = data[start:]
    if data[:start] != _STATE_MAGIC + sha256(payload).encode() + b"\n":
        raise ValueError(f"{path} is not a whole training state (SHA-256 differs): delete it to start anew")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle made by others can raise anything
        raise ValueError(
            f"{path} holds other things than tensors and plain values, which are never run: delete it"
        ) from error
    return state
