"""A job in the page's background: start, pause and stop buttons, a bar, a message, a picture. Needs ipywidgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import ipywidgets as widgets

from dpnet_lite.course.explorers.picture import PictureBox, error_message, in_a_row

PIECE = 5  # steps between two looks at the buttons


class Job(Protocol):
    """What can be done a few steps at a time."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def done(self) -> bool: ...
    def advance(self, steps: int) -> None: ...


AnyJob = TypeVar("AnyJob", bound=Job)


class BackgroundJob(PictureBox, Generic[AnyJob]):
    """Runs a job a few steps at a time in the kernel's event loop, so that the buttons answer in between.

    Subclasses make the job and draw it. A cell that runs makes it wait. An error is shown and kept in `error`.

    Args:
        above: further controls, over the buttons.
        alt: what the picture shows.
    """

    preparing = "getting ready ..."

    def __init__(self, alt: str, above: Sequence[widgets.Widget] = ()) -> None:
        self.run: AnyJob | None = None
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self.start = widgets.Button(description="Start", icon="play", tooltip="begin, or go on after a pause")
        self.pause = widgets.Button(description="Pause", icon="pause", tooltip="keep the run as it is", disabled=True)
        self.stop = widgets.Button(description="Stop", icon="stop", tooltip="give the run up", disabled=True)
        self.bar = widgets.IntProgress(0, min=0, max=1, layout=widgets.Layout(width="98%"))
        self.message = widgets.HTML("not started")
        self.start.on_click(lambda button: self.begin())
        self.pause.on_click(lambda button: self.halt())
        self.stop.on_click(lambda button: self.give_up())
        super().__init__([*above, in_a_row([self.start, self.pause, self.stop]), self.bar, self.message], alt)

    def make_run(self) -> AnyJob:
        """A new job."""
        raise NotImplementedError

    def draw(self) -> str:
        """Draw the picture anew; returns what the message says of the numbers."""
        raise NotImplementedError

    @property
    def training(self) -> bool:
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
            first, since = self.run.step, time.monotonic()
            while not self.run.done:
                self.run.advance(PIECE)
                left = (time.monotonic() - since) / (self.run.step - first) * (self.run.steps - self.run.step)
                self.refresh(f", {left:.0f} s left")
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
