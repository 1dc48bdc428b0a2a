"""Paint a mask on an image with the mouse or a finger. Needs ipywidgets and ipyevents."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
from ipyevents import Event
from matplotlib.colors import to_rgb
from PIL import Image

from dpnet_lite.course.explorers.shell import PictureBox, in_a_row, place_in_picture
from dpnet_lite.datasets.images import ImageLike, png, to_image
from dpnet_lite.experiments.plots import ORANGE

_SHOWN = 384  # pixels of the shorter side on the page, at least
_LONGEST = 768  # pixels of the longer side on the page: every move of the brush sends the whole picture
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
    """An image to paint on; `mask`, bool [H, W], is what has been painted. H x W is the image's size, upright.

    A large image is painted on at 1 / `shrink` of its size, `image`, uint8 [h, w, 3]; `mask` is enlarged again.

    Args:
        image: whatever `to_image` takes.
        radius: of the brush, in pixels of the image.
        mask: bool [H, W], painted already.

    Raises:
        FileNotFoundError, ValueError: see `to_image`.
    """

    def __init__(self, image: ImageLike, radius: int = 4, mask: np.ndarray | None = None) -> None:
        pixels = to_image(image).permute(1, 2, 0).numpy()  # [3, H, W] -> [H, W, 3]
        self.shape = pixels.shape[:2]
        self.shrink = -(-max(self.shape) // _LONGEST)
        self.image = np.array(Image.fromarray(pixels).reduce(self.shrink))
        start = np.zeros(self.shape, bool) if mask is None else np.asarray(mask)
        if start.dtype != bool or start.shape != self.shape:
            raise ValueError(f"mask is {start.dtype} {list(start.shape)}; give bool {list(self.shape)}")
        self._mask = start[:: self.shrink, :: self.shrink].copy()
        self._undo: deque[np.ndarray] = deque(maxlen=KEPT)
        self._last: tuple[float, float] | None = None  # where the brush is while it is down
        self.zoom = max(1, min(-(-_SHOWN // min(self._mask.shape)), _LONGEST // max(self._mask.shape)))
        self.radius = widgets.IntSlider(radius, min=1, max=max(2, min(self.shape) // 6), description="brush")
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

    @property
    def mask(self) -> np.ndarray:
        """What has been painted, bool [H, W]."""
        enlarged = self._mask.repeat(self.shrink, axis=0).repeat(self.shrink, axis=1)
        return enlarged[: self.shape[0], : self.shape[1]]

    def moved(self, event: Mapping[str, Any]) -> None:
        """An event of mouse or finger."""
        kind = event["type"]
        if kind in ("mouseup", "mouseleave", "touchend", "touchcancel") or (
            kind == "mousemove" and not event.get("buttons")
        ):
            self._last = None
            return
        point = place_in_picture(event, self._mask.shape[::-1])
        if point is None:
            return
        if kind in ("mousedown", "touchstart"):
            self._undo.append(self._mask.copy())
            self._last = point
        if self._last is not None:
            self._stroke(self._last, point, self.tool.value == "paint")
            self._last = point

    def paint(self, *points: tuple[float, float], erase: bool = False) -> None:
        """One stroke through `points`, (x, y) in pixels of the image, without a mouse."""
        self._undo.append(self._mask.copy())
        places = [((x + 0.5) / self.shrink - 0.5, (y + 0.5) / self.shrink - 0.5) for x, y in points]
        for start, end in zip(places, places[1:] or places, strict=False):
            self._stroke(start, end, not erase)

    def undo(self) -> None:
        """Take the last stroke back."""
        if self._undo:
            self._mask = self._undo.pop()
            self._show()

    def clear(self) -> None:
        """Take everything away; `undo` brings it back."""
        self._undo.append(self._mask)
        self._mask = np.zeros_like(self._mask)
        self._show()

    def _stroke(self, start: tuple[float, float], end: tuple[float, float], value: bool) -> None:
        stroke(self._mask, start, end, max(1, self.radius.value / self.shrink), value)
        self._show()

    def _show(self) -> None:
        painted = 0.4 * self.image[self._mask] + 0.6 * 255 * np.array(to_rgb(ORANGE))
        picture = self.image.copy()
        picture[self._mask] = painted.astype(np.uint8)
        size = (picture.shape[1] * self.zoom, picture.shape[0] * self.zoom)
        enlarged = Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
        self.picture.value = png(enlarged, compress_level=1)
