"""What all explorers share: a column of widgets that ends with a picture. Needs ipywidgets."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

DPI = 100  # of every picture: a click on the page is looked up in the figure at the same scale
LEAST_WIDTH = "560px"  # in a narrower window one scrolls the picture, and can still read it


class PictureBox(widgets.VBox):
    """Widgets above, a picture below.

    Args:
        above: from top to bottom.
        alt: what the picture shows, for readers who cannot see it.
    """

    def __init__(self, above: Sequence[widgets.Widget], alt: str) -> None:
        self.picture = widgets.Image(
            format="png", layout=widgets.Layout(max_width="100%", min_width=LEAST_WIDTH, flex="none")
        )
        self.picture.alt = alt
        frame = widgets.Box([self.picture], layout=widgets.Layout(overflow="auto"))
        super().__init__([*above, frame])

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """What Jupyter shows: the widget where a kernel runs, else the picture."""
        bundle = {"text/plain": self.picture.alt, "image/png": base64.b64encode(self.picture.value).decode()}
        return {**super()._repr_mimebundle_(**options), **bundle}


def error_message(what: str, error: Exception) -> widgets.HTML:
    """An error as the reader sees it."""
    text = html.escape(f"{type(error).__name__}: {error}")
    return widgets.HTML(f'<div role="alert" style="color:#D55E00"><b>{what}</b> {text}</div>')


def in_a_row(items: Sequence[widgets.Widget]) -> widgets.Box:
    """Widgets side by side, in as many rows as the window needs."""
    return widgets.Box(list(items), layout=widgets.Layout(flex_flow="row wrap"))


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
