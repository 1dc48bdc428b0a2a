"""A thin shell of widgets over a function from settings to a figure. Needs ipywidgets and ipyevents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets
from ipyevents import Event
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dpnet_lite.course.explorers.picture import DPI, PictureBox, error_message, in_a_row, png

Click = Callable[[int, float, float], Mapping[str, Any]]


class Explorer(PictureBox):
    """Controls above, a picture below.

    Args:
        draw: from the controls' values, by name, to a figure; it keeps nothing.
        controls: by the names of draw's arguments, in the order in which they are shown.
        alt: what the picture shows, for readers who cannot see it.
        click: from a place in the picture (number of the panel, x and y in its units) to new values of controls,
            by name; none where the place means nothing.

    An error of `draw` or `click` is shown above the picture and kept in `error`; ipywidgets would swallow it.
    """

    def __init__(
        self, draw: Callable[..., Figure], controls: Mapping[str, Any], *, alt: str, click: Click | None = None
    ) -> None:
        self.draw, self.controls, self.click = draw, dict(controls), click
        self.error: Exception | None = None
        self.figure: Figure | None = None
        self._held = False
        self._places: dict[tuple[int, ...], list[Bbox]] = {}
        self.message = widgets.HTML()
        for control in self.controls.values():
            control.observe(lambda change: self.redraw(), names="value")
        super().__init__([in_a_row(list(self.controls.values())), self.message], alt)
        if click is not None:
            self.events = Event(source=self.picture, watched_events=["click"])
            self.events.on_dom_event(self.clicked)
        self.redraw()

    @property
    def state(self) -> dict[str, Any]:
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self) -> None:
        """Draw the present state."""
        if not self._held:
            self._shown(self._draw)

    def change(self, values: Mapping[str, Any]) -> None:
        """Set several controls by name and draw once."""
        self._shown(lambda: self._set(values))

    def clicked(self, event: Mapping[str, Any]) -> None:
        """A click on the picture: `dataX` and `dataY` of the event are pixels of the PNG file."""
        assert self.click is not None and self.figure is not None
        place = panel_at(self.figure, float(event["dataX"]), float(event["dataY"]))
        if place is not None:
            self._shown(lambda: self._follow(place))

    def _follow(self, place: tuple[int, float, float]) -> None:
        assert self.click is not None
        self._set(self.click(*place))

    def _set(self, values: Mapping[str, Any]) -> None:
        if not values and self.error is None:
            return  # a place that means nothing; after an error it draws anew, so that the picture is the settings'
        self._held = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._held = False
        self._draw()

    def _draw(self) -> None:
        self.figure = self.draw(**self.state)
        # Finding room for all labels takes a third of a redraw: pictures with the same panels share their places.
        kind = _kind(self.figure)
        places = self._places.get(kind)
        if places is not None:
            self.figure.set_layout_engine("none")
            for axes, place in zip(self.figure.axes, places, strict=True):
                axes.set_position(place)
        self.picture.value = png(self.figure)
        self._places[kind] = [axes.get_position(original=True) for axes in self.figure.axes]

    def _shown(self, action: Callable[[], None]) -> None:
        """Run `action`; whatever error it raises is told to the reader, and told no more after a success."""
        try:
            action()
        except Exception as error:  # whatever it is, the reader must see it
            self.error = error
            self.message.value = error_message("This setting cannot be drawn.", error).value
        else:
            self.error = None
            self.message.value = ""


def _kind(figure: Figure) -> tuple[int, ...]:
    """For each panel the length of the longest label at its y axis, colour bars included."""
    return tuple(max((len(label.get_text()) for label in axes.get_yticklabels()), default=0) for axes in figure.axes)


def panel_at(figure: Figure, x: float, y: float) -> tuple[int, float, float] | None:
    """Which panel of a drawn figure a pixel of its PNG lies in.

    Args:
        figure: drawn already, so that its panels have their places.
        x, y: pixels from the left and from the top.

    Returns:
        number of the panel, in the order of `figure.axes`, and the place in its data units; None outside of all.
    """
    scale = figure.dpi / DPI
    point = (x * scale, figure.bbox.height - y * scale)
    for number, axes in enumerate(figure.axes):
        if axes.bbox.contains(*point):
            inside = axes.transData.inverted().transform(point)
            return number, float(inside[0]), float(inside[1])
    return None
