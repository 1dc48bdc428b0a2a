"""Paint a mask on an image with the mouse or a finger. Needs ipywidgets and ipyevents."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
from ipyevents import Event
from matplotlib.colors import to_rgb
from PIL import Image

from dpnet_lite.course.explorers.shell import PictureBox, in_a_row
from dpnet_lite.experiments.plots import ORANGE

_SHOWN = 384  # pixels of the shorter side on the page, at least
_EVENTS = ["mousedown", "mousemove", "mouseup", "mouseleave", "touchstart", "touchmove", "touchend", "touchcancel"]
KEPT = 20  # strokes that can be taken back


def stroke(mask: np.ndarray, start: tuple[float, float], end: tuple[float, float], radius: float, value: bool) -> None:
    """Set all pixels of `mask`, bool [H, W], within `radius` of the line from start to end, each (x, y) in pixels."""
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    x, y = end[0] - start[0], end[1] - start[1]
    along = ((columns - start[0]) * x + (rows - start[1]) * y) / max(x * x + y * y, 1e-12)
    along = np.clip(along, 0, 1)  # [H, W]: the nearest point of the line, 0 its start and 1 its end
    near = (columns - start[0] - along * x) ** 2 + (rows - start[1] - along * y) ** 2 <= radius**2
    mask[near] = value


class MaskPainter(PictureBox):
    """An image to paint on; `mask`, bool [H, W], is what has been painted.

    Args:
        image: uint8 [H, W, 3], or a PIL image.
        radius: of the brush, in pixels of the image.

    Raises:
        ValueError: the image has another shape or type.
    """

    def __init__(self, image: np.ndarray | Image.Image, radius: int = 4) -> None:
        self.image = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"the image is {self.image.dtype} {list(self.image.shape)}; give uint8 [H, W, 3]")
        self.mask = np.zeros(self.image.shape[:2], bool)
        self._undo: deque[np.ndarray] = deque(maxlen=KEPT)
        self._last: tuple[float, float] | None = None  # where the brush is while it is down
        self.zoom = max(1, -(-_SHOWN // min(self.mask.shape)))
        self.radius = widgets.IntSlider(radius, min=1, max=max(2, min(self.mask.shape) // 6), description="brush")
        self.tool = widgets.ToggleButtons(options=["paint", "erase"], style={"button_width": "5em"})
        undo, clear = (widgets.Button(description=name, layout={"width": "5em"}) for name in ("undo", "clear"))
        undo.on_click(lambda button: self.undo())
        clear.on_click(lambda button: self.clear())
        row = in_a_row([self.radius, self.tool, undo, clear])
        super().__init__([row], "The image, with the painted mask in orange")
        self.picture.layout.min_width = "0"
        self.events = Event(source=self.picture, watched_events=_EVENTS, prevent_default_action=True, wait=30)
        self.events.on_dom_event(self.moved)
        self._show()

    def moved(self, event: Mapping[str, Any]) -> None:
        """An event of mouse or finger; its `dataX` and `dataY` are pixels of the shown picture."""
        kind = event["type"]
        if kind in ("mouseup", "mouseleave", "touchend", "touchcancel") or (
            kind == "mousemove" and not event.get("buttons")
        ):
            self._last = None
            return
        place = event["touches"][0] if kind.startswith("touch") else event
        point = ((place["dataX"] + 0.5) / self.zoom - 0.5, (place["dataY"] + 0.5) / self.zoom - 0.5)
        if kind in ("mousedown", "touchstart"):
            self._undo.append(self.mask.copy())
            self._last = point
        if self._last is not None:
            self._stroke(self._last, point)
            self._last = point

    def paint(self, *points: tuple[float, float], erase: bool = False) -> None:
        """One stroke through `points`, (x, y) in pixels of the image, without a mouse."""
        self._undo.append(self.mask.copy())
        for start, end in zip(points, points[1:] or points, strict=False):
            stroke(self.mask, start, end, self.radius.value, not erase)
        self._show()

    def undo(self) -> None:
        """Take the last stroke back."""
        if self._undo:
            self.mask = self._undo.pop()
            self._show()

    def clear(self) -> None:
        """Take everything away; `undo` brings it back."""
        self._undo.append(self.mask)
        self.mask = np.zeros_like(self.mask)
        self._show()

    def _stroke(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        stroke(self.mask, start, end, self.radius.value, self.tool.value == "paint")
        self._show()

    def _show(self) -> None:
        painted = 0.4 * self.image[self.mask] + 0.6 * 255 * np.array(to_rgb(ORANGE))
        picture = self.image.copy()
        picture[self.mask] = painted.astype(np.uint8)
        size = (picture.shape[1] * self.zoom, picture.shape[0] * self.zoom)
        buffer = io.BytesIO()
        Image.fromarray(picture).resize(size, Image.Resampling.NEAREST).save(buffer, format="png", compress_level=1)
        self.picture.value = buffer.getvalue()
