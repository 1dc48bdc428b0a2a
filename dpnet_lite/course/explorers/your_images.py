"""Your own images on the page: upload a support and a query, paint the object, segment. Needs ipywidgets, ipyevents."""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from dpnet_lite.course.explorers.painter import MaskPainter
from dpnet_lite.course.explorers.panels import new_figure, png, show_image
from dpnet_lite.course.explorers.shell import PictureBox, in_a_row
from dpnet_lite.datasets import OBJECTS_CREDIT, images, objects
from dpnet_lite.experiments.plots import ORANGE, overlay
from dpnet_lite.predictor import Predictor

MAX_BYTES, MAX_PIXELS = 20_000_000, 50_000_000  # of an uploaded file, of the image in it
LONGEST = 768  # pixels of the longer side, to which an uploaded image is shrunk
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # Pillow alone reads these; for others it starts programs


def decode(name: str, content: bytes | memoryview) -> np.ndarray:
    """The image in an uploaded file: uint8 [H, W, 3], upright, its longer side at most `LONGEST` pixels.

    Raises:
        ValueError: the file is too large, holds too many pixels, or is no image that can be read.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name} has {len(content) / 1e6:.1f} MB; give a file of at most {MAX_BYTES / 1e6:.0f} MB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
        pixels = images.to_image(image) if image.width * image.height <= MAX_PIXELS else None
    except Exception as error:  # broken files make Pillow raise anything from SyntaxError to struct.error
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise ValueError(f"{name} cannot be read as an image{reason}; give a JPEG or PNG file") from error
    if pixels is None:
        size, most = f"{image.width} x {image.height}", MAX_PIXELS / 1e6
        raise ValueError(f"{name} has {size} pixels; scale it down to {most:.0f} million pixels at most")
    upright = Image.fromarray(pixels.permute(1, 2, 0).numpy())  # [3, H, W] -> [H, W, 3]
    upright.thumbnail((LONGEST, LONGEST))
    return np.array(upright)


def segmented_figure(support: np.ndarray, mask: np.ndarray, query: np.ndarray, found: np.ndarray) -> Figure:
    """The support [H, W, 3] with the outline of its mask [H, W], the query, and the mask that was found in it."""
    figure, grid = new_figure(3, width=2.3, height=2.5)
    show_image(grid[0, 0], support, "support with your mask", outline=mask)
    show_image(grid[0, 1], query, "query")
    show_image(grid[0, 2], overlay(query, found, ORANGE), "predicted mask", outline=found)
    return figure


def _link(name: str, mask: np.ndarray) -> str:
    """A link that saves a mask, bool [H, W], as a PNG of 0 and 255."""
    data = base64.b64encode(images.png(np.uint8(255) * mask.astype(np.uint8))).decode()
    return f'<a download="{name}" href="data:image/png;base64,{data}">{name}</a>'


class YourImages(PictureBox):
    """Upload a support image and a query, paint the object on the support, segment. Begins with shipped photographs.

    Uploaded images stay in memory. An error is shown above the picture and kept in `error`.
    """

    complaint = "This cannot be done."

    def __init__(self) -> None:
        self.predictor = Predictor.load("photographs")
        samples = {"support": objects()[0], "query": objects()[1]}  # two photographs of one object
        self.images = {name: sample.image.permute(1, 2, 0).numpy() for name, sample in samples.items()}
        self.examples = set(samples)  # which of the images are shipped photographs
        self.painter = MaskPainter(self.images["support"], 12, samples["support"].labels.numpy() > 0)
        self.uploads = {name: self._upload(name) for name in samples}
        self.canvas = widgets.VBox()
        self.button = widgets.Button(description="Segment", icon="play", button_style="primary")
        self.button.on_click(lambda button: self._shown(self.segment))
        self.message = widgets.HTML()
        above = [in_a_row(list(self.uploads.values())), self.canvas, self.button, self.message]
        self._watch()
        super().__init__(above, "The support image with the outline of its mask, the query, and the predicted mask")
        self.segment()

    def _upload(self, name: str) -> widgets.FileUpload:
        layout = widgets.Layout(width="180px")
        upload = widgets.FileUpload(accept="image/*", description=f"{name} image", layout=layout)
        upload.observe(lambda change: self._shown(lambda: self.take(name, change["new"][0])), names="value")
        return upload

    def take(self, name: str, file: Mapping[str, Any]) -> str:
        """An uploaded file, as `FileUpload` gives it, becomes the support or the query; returns what to do next."""
        told = repr(file["name"])[1:-1]  # what cannot be printed is escaped
        self.images[name] = decode(told, file["content"])
        self.examples.discard(name)
        if name == "support":
            self.painter = MaskPainter(self.images[name], max(4, max(self.images[name].shape) // 32))
            self._watch()
        self.picture.layout.display = "none"  # it is of the images before
        self._credit()
        return f"{html.escape(told)} is the {name} now; paint the support, then press Segment"

    def _watch(self) -> None:
        """Show the painter; from a stroke on, the answer below is of an earlier mask."""
        self.canvas.children = [self.painter]
        self.painter.picture.observe(self._outdated, names="value")

    def _outdated(self, change: Any) -> None:
        self.message.value = "the mask has changed: press Segment"

    def segment(self) -> str:
        """Predict the query's mask from the support and what is painted on it, draw all three; gives links to masks."""
        support, query, mask = self.images["support"], self.images["query"], self.painter.mask
        if not mask.any():
            raise ValueError("no mask is painted; hold the mouse button down and draw over the object in the support")
        found = self.predictor.set_support([support], [mask]).predict(query).mask == 1
        self.picture.value = png(segmented_figure(support, mask, query, found))
        self.picture.layout.display = None
        self._credit()
        return f"save {_link('mask.png', found)} (of the query) or {_link('support_mask.png', mask)} (as painted)"

    def _credit(self) -> None:
        self.caption.value = f"<small>{OBJECTS_CREDIT}</small>" if self.examples else ""
