"""What all explorers share: a picture with controls over it, and a job in the background. Needs ipywidgets."""

from __future__ import annotations

import asyncio
import base64
import html
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import ipywidgets as widgets
from ipyevents import Event
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from traitlets import Unicode

from dpnet_lite.course.explorers.panels import DPI, png

_WIDE = {"description_width": "initial"}
_PIECE = 5  # steps of a job between two looks at the buttons
LISTS = {False: 8, True: 2}  # by `photographs`: of episodes, through which one is sought; seconds at most
_TIMED = 15  # steps after the first piece from which on the time left is told


def dropdown(name: str, options: Iterable[Any], **named: Any) -> widgets.Dropdown:
    """A choice among options, as ipywidgets takes them."""
    return widgets.Dropdown(options=options, description=name, style=_WIDE, **named)


def slider(name: str, low: int, high: int, value: int) -> widgets.IntSlider:
    """A whole number from low to high; the picture is drawn when it is let go."""
    return widgets.IntSlider(value, min=low, max=high, description=name, continuous_update=False, style=_WIDE)


def offer(choice: widgets.Dropdown, names: Sequence[str]) -> bool:
    """Names for the values 0, 1, ..., and the same value where there is one; whether they are others than before."""
    options = [(name, number) for number, name in enumerate(names)]
    changed = list(choice.options) != options
    if changed:
        place = choice.index
        choice.options = options
        choice.index = min(place, len(options) - 1)
    return changed


def in_a_row(items: Sequence[widgets.Widget]) -> widgets.Box:
    """Widgets side by side, in as many rows as the window needs."""
    return widgets.Box(list(items), layout=widgets.Layout(flex_flow="row wrap"))


def error_message(what: str, error: Exception) -> widgets.HTML:
    """An error as the reader sees it."""
    text = html.escape(f"{type(error).__name__}: {error}")
    return widgets.HTML(f'<div role="alert" style="color:#D55E00"><b>{what}</b> {text}</div>')


def place_in_picture(event: Mapping[str, Any], size: tuple[float, float]) -> tuple[float, float] | None:
    """Which pixel (x, y) of a picture of `size`, (width, height), an event of mouse or finger points at.

    The place on the page and the size shown there are always right. ipyevents' `dataX` and `dataY` are not: they ask
    the browser for the picture's own size, which is 0 while a new picture loads. None where nothing is shown.
    """
    point = (event.get("touches") or [event])[0]
    shown = point["boundingRectWidth"], point["boundingRectHeight"]
    if min(shown) <= 0:
        return None
    places = zip("XY", size, shown, strict=True)
    x, y = ((point[f"relative{axis}"] + 0.5) * own / seen - 0.5 for axis, own, seen in places)
    return x, y


class Picture(widgets.Image):
    """An image with alternative text: `tooltip` becomes the element's `title`, which is its accessible name.

    ipywidgets gives an image no `alt`, and a `title` only to widgets with an (empty) description.
    """

    description = Unicode("").tag(sync=True)


class PictureBox(widgets.VBox):
    """Widgets above, a picture below.

    Args:
        above: from top to bottom.
        alt: what the picture shows, for readers who cannot see it.
        picture: a box that stands over all and lends its picture and caption, in place of new ones.
    """

    message: widgets.HTML
    picture: Picture
    caption: widgets.HTML
    error: Exception | None = None
    complaint = "This setting cannot be drawn."  # before an error

    def __init__(self, above: Sequence[widgets.Widget], alt: str, picture: PictureBox | None = None) -> None:
        self.alt = alt
        if picture is not None:
            self.picture, self.caption = picture.picture, picture.caption
            super().__init__([picture, *above])
            return
        # In a window narrower than min_width one scrolls the picture, and can still read it.
        layout = widgets.Layout(max_width="100%", min_width="560px", flex="none")
        self.picture = Picture(format="png", layout=layout, tooltip=alt)
        frame = widgets.Box([self.picture], layout=widgets.Layout(overflow="auto"))
        self.caption = widgets.HTML()  # under the picture
        super().__init__([*above, frame, self.caption])

    def _shown(self, action: Callable[[], str | None]) -> None:
        """Run `action`; the reader is told what error it raises, or else what it returns."""
        self.message.value = "computing ..."
        try:
            self.error, self.message.value = None, action() or ""
        except Exception as error:  # whatever it is, the reader must see it
            self.error, self.message.value = error, error_message(self.complaint, error).value

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """What Jupyter shows: the widget where a kernel runs, else the picture."""
        bundle = {"text/plain": self.picture.tooltip, "image/png": base64.b64encode(self.picture.value).decode()}
        return {**super()._repr_mimebundle_(**options), **bundle}


class Explorer(PictureBox):
    """Controls above, a picture below.

    Args:
        draw: from the controls' values, by name, to a figure; it keeps nothing.
        controls: by the names of draw's arguments, in the order in which they are shown.
        alt: what the picture shows, for readers who cannot see it.
        click: from a place in the picture (number of the panel, x and y in its units) to new values of controls,
            by name; none where the place means nothing.
        follow: sets, before each picture, what in some controls depends on others; returns a credit for the caption.
        tell: from the controls' values to a sentence on the picture; it joins the caption and the alternative text.
        seek: from the controls' values and "failure" or "success" to new values that show the next such episode, None
            where there is none near; each gets a button. The picture begins with its first success.

    An error of `draw` or `click` is shown above the picture and kept in `error`; ipywidgets would swallow it.
    """

    def __init__(
        self,
        draw: Callable[..., Figure],
        controls: Mapping[str, Any],
        *,
        alt: str,
        click: Callable[[int, float, float], Mapping[str, Any]] | None = None,
        follow: Callable[[Mapping[str, Any]], str] = lambda controls: "",
        tell: Callable[..., str] = lambda **state: "",
        seek: Callable[[Mapping[str, Any], str], Mapping[str, Any] | None] | None = None,
    ) -> None:
        self.draw, self.controls, self.click = draw, dict(controls), click
        self.follow, self.tell, self.seek = follow, tell, seek
        kinds = ("failure", "success") if seek is not None else ()
        self.buttons = {kind: widgets.Button(description=f"show a {kind}", layout={"width": "auto"}) for kind in kinds}
        for kind, button in self.buttons.items():
            button.on_click(lambda _, kind=kind: self._shown(lambda: self._sought(kind)))
        self.figure: Figure | None = None
        self._held = False
        self._places: dict[tuple[float, ...], list[Bbox]] = {}
        self.message = widgets.HTML()
        for control in self.controls.values():
            control.observe(lambda change: self.redraw(), names="value")
        buttons = widgets.HBox(list(self.buttons.values()))
        super().__init__([in_a_row([*self.controls.values(), buttons]), self.message], alt)
        if click is not None:
            self.events = Event(source=self.picture, watched_events=["click"])
            self.events.on_dom_event(self.clicked)
        self._shown(lambda: self._draw({}) if seek is None else self._sought("success"))

    @property
    def state(self) -> dict[str, Any]:
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def change(self, values: Mapping[str, Any]) -> None:
        """Set several controls by name and draw once."""
        self._shown(lambda: self._draw(values))

    def clicked(self, event: Mapping[str, Any]) -> None:
        """A click on the picture."""
        assert self.figure is not None and self.click is not None
        point = place_in_picture(event, tuple(DPI * self.figure.get_size_inches()))
        place = point and panel_at(self.figure, *point)
        if place:
            values = self.click
            self._shown(lambda: self._draw(values(*place), always=False))

    def redraw(self) -> None:
        """Draw the present state."""
        if not self._held:
            self._shown(lambda: self._draw({}))

    def _sought(self, kind: str) -> str:
        """Show the next failure or success; returns what to say where there is none."""
        assert self.seek is not None
        values = self.seek(self.state, kind)
        self._draw(values or {})
        return "" if values else f"no {kind} in the next {LISTS[self.state['photographs']]} lists of episodes"

    def _draw(self, values: Mapping[str, Any], *, always: bool = True) -> None:
        if not (values or always or self.error):
            return  # a place that means nothing; after an error it draws anew, so that the picture is the settings'
        self._held = True
        try:
            credit = self.follow(self.controls)
            for name, value in values.items():
                self.controls[name].value = value
                credit = self.follow(self.controls)  # what the others may be can depend on it
        finally:
            self._held = False
        self.figure = self.draw(**self.state)
        # Finding room for all labels takes a third of a redraw: pictures with the same panels share their places.
        kind = _kind(self.figure)
        places = self._places.get(kind)
        if places is not None:
            self.figure.set_layout_engine("none")
            for axes, place in zip(self.figure.axes, places, strict=True):
                axes.set_position(place)
        told = self.tell(**self.state)
        self.picture.value, self.caption.value = png(self.figure), "<br>".join(filter(None, (told, credit)))
        self.picture.tooltip = ". ".join(filter(None, (self.alt, re.sub("<[^>]*>", "", told))))
        self._places[kind] = [axes.get_position(original=True) for axes in self.figure.axes]


def _kind(figure: Figure) -> tuple[float, ...]:
    """The size, and for each panel the length of the longest label at its y axis, colour bars included."""
    longest = (max((len(label.get_text()) for label in axes.get_yticklabels()), default=0) for axes in figure.axes)
    return (*map(float, figure.get_size_inches()), *longest)


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


class _Job(Protocol):
    """What can be done a few steps at a time."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def done(self) -> bool: ...
    def advance(self, steps: int) -> None: ...


_AnyJob = TypeVar("_AnyJob", bound=_Job)


class BackgroundJob(PictureBox, Generic[_AnyJob]):
    """Runs a job a few steps at a time in the kernel's event loop, so that the buttons answer in between.

    Subclasses make the job and draw it. A cell that runs makes it wait. An error is shown and kept in `error`.

    Args:
        alt: what the picture shows.
        picture: as in `PictureBox`.
    """

    preparing = "getting ready ..."

    def __init__(self, alt: str, picture: PictureBox | None = None) -> None:
        self.run: _AnyJob | None = None
        self.task: asyncio.Task[None] | None = None
        self.start = widgets.Button(description="Start", icon="play", tooltip="begin, or go on after a pause")
        self.pause = widgets.Button(description="Pause", icon="pause", tooltip="keep the run as it is", disabled=True)
        self.stop = widgets.Button(description="Stop", icon="stop", tooltip="give the run up", disabled=True)
        self.bar = widgets.IntProgress(0, min=0, max=1, layout=widgets.Layout(width="98%"))
        self.message = widgets.HTML("not started")
        self.start.on_click(lambda button: self.begin())
        self.pause.on_click(lambda button: self.halt())
        self.stop.on_click(lambda button: self.give_up())
        super().__init__([in_a_row([self.start, self.pause, self.stop]), self.bar, self.message], alt, picture)

    def make_run(self) -> _AnyJob:
        """A new job."""
        raise NotImplementedError

    def draw(self) -> str:
        """Draw the picture anew; returns what the message says of the numbers."""
        raise NotImplementedError

    @property
    def training(self) -> bool:
        """Whether it runs just now."""
        return self.task is not None and not self.task.done()

    def begin(self) -> None:
        """Start, or go on after a pause. Needs a running event loop, as every kernel has."""
        if not self.training:
            self.task = asyncio.get_running_loop().create_task(self._train())

    def halt(self) -> None:
        """Pause: the run stays as it is."""
        self._cancel()
        goes_on = self.run is not None and not self.run.done
        self._settle("paused; Start goes on from here" if goes_on else "Start begins anew")

    def give_up(self) -> None:
        """Stop: the picture stays, the next start begins a new run."""
        self._cancel()
        self._settle("stopped; Start begins anew", keep=False)

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.task = None  # it ends when the event loop comes by; Start need not wait for that

    async def _train(self) -> None:
        self.error = None
        self._set_buttons(training=True)
        try:
            if self.run is None or self.run.done:
                self.run = None  # a pause from here on finds nothing to keep
                self.message.value = self.preparing
                await asyncio.sleep(0.05)  # the message goes out first
                self.run = self.make_run()
            first, since = self.run.step + _PIECE, time.monotonic()
            while not self.run.done:
                self.run.advance(_PIECE)
                past = self.run.step - first
                if past <= 0:
                    since = time.monotonic()  # the first piece also gets data ready: it says nothing of the others
                left = (time.monotonic() - since) / max(1, past) * (self.run.steps - self.run.step)
                self.refresh(f", {left:.0f} s left" if past >= _TIMED else "")
                await asyncio.sleep(0.01)  # clicks come in here
        except Exception as error:  # a task would keep it to itself
            self.error = error
            self.run = None
            self._settle(error_message("The run has stopped.", error).value)
        else:
            self._settle("done; Start begins anew")

    def _settle(self, text: str, *, keep: bool = True) -> None:
        """Say where the run is, and `text`; the next start goes on with it only if it is kept."""
        where = f"step {self.run.step} of {self.run.steps}, " if self.run is not None else ""
        self.message.value = where + text
        self.run = self.run if keep else None
        self._set_buttons(training=False)

    def _set_buttons(self, *, training: bool) -> None:
        self.start.disabled = training
        self.pause.disabled = not training
        self.stop.disabled = not training and self.run is None

    def refresh(self, left: str = "") -> None:
        """Draw, and say how far the run is and what time is left."""
        numbers = self.draw()
        if self.run is not None:
            self.bar.max, self.bar.value = self.run.steps, self.run.step
            self.message.value = f"step {self.run.step} of {self.run.steps}{numbers}{left}"
