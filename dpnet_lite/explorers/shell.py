"""A thin shell of widgets over a function from settings to a figure. Needs ipywidgets."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure


class Explorer(widgets.VBox):
    """Controls above, a picture below.

    Args:
        draw: from the controls' values, by name, to a figure; it keeps nothing.
        controls: by the names of draw's arguments, in the order in which they are shown.
        alt: what the picture shows, for readers who cannot see it.

    An error of `draw` is shown in place of the picture and kept in `error`; ipywidgets itself would swallow it.
    """

    def __init__(self, draw: Callable[..., Figure], controls: Mapping[str, Any], *, alt: str) -> None:
        self.draw, self.controls = draw, dict(controls)
        self.error: Exception | None = None
        self.message = widgets.HTML()
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
        self.picture.alt = alt
        for control in self.controls.values():
            control.observe(lambda change: self.redraw(), names="value")
        row = widgets.Box(list(self.controls.values()), layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self.message, self.picture])
        self.redraw()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """What Jupyter shows: the widget where a kernel runs, else the picture."""
        bundle = {"text/plain": self.picture.alt, "image/png": base64.b64encode(self.picture.value).decode()}
        return {**super()._repr_mimebundle_(**options), **bundle}

    @property
    def state(self) -> dict[str, Any]:
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self) -> None:
        """Draw the present state."""
        try:
            self.picture.value = png(self.draw(**self.state))
        except Exception as error:  # whatever it is, the reader must see it
            self.error = error
            text = html.escape(f"{type(error).__name__}: {error}")
            self.message.value = (
                f'<div role="alert" style="color:#D55E00"><b>This setting cannot be drawn.</b> {text}</div>'
            )
        else:
            self.error = None
            self.message.value = ""


def png(figure: Figure, *, dpi: int = 100) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
