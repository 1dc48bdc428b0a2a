"""The live trainer: curves as a pure function, and a widget that trains piece by piece. Needs ipywidgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from ..live_training import LiveTraining, Score
from ..plots import BLACK, BLUE, ORANGE
from .panels import new_figure
from .picture import PictureBox, error_message, in_a_row, png

PIECE = 5  # steps between two looks at the buttons
ALT = "Curves of a training run: the loss, and mIoU on base and on novel classes, against the step"


def training_figure(losses: Sequence[Mapping[str, float]], scores: Sequence[Score], steps: int) -> Figure:
    """Left the loss of every tenth step, right mIoU on base and novel classes; both axes reach to `steps`."""
    figure, grid = new_figure(2, width=3.6, height=2.8)
    loss, miou = grid[0]
    loss.plot([row["step"] for row in losses], [row["main"] for row in losses], color=BLACK, linewidth=1)
    loss.set(ylabel="cross-entropy", ylim=(0, None) if losses else (0, 1))
    for name, colour, marker, line in (("base", ORANGE, "s", "--"), ("novel", BLUE, "o", "-")):
        values = [getattr(score, name) for score in scores]
        steps_scored = [score.step for score in scores]
        miou.plot(
            steps_scored, values, line, marker=marker, color=colour, label=f"{name} classes", clip_on=not scores
        )  # fmt: skip
    miou.set(ylabel="mIoU", ylim=(0, 1))
    miou.legend(frameon=False, fontsize=10, loc="lower right")
    for axes in grid[0]:
        axes.set(xlabel="step", xlim=(0, steps))
        axes.spines[["top", "right"]].set_visible(False)
    return figure


class LiveTrainer(PictureBox):
    """Start, pause and stop a training run, with curves that grow.

    Args:
        make: gives a new run; it is called at the first start, and at the first start after a stop.

    It trains in the kernel's event loop, a few steps at a time, so the buttons answer in between; a cell that runs
    makes it wait. An error is shown and kept in `error`.
    """

    def __init__(self, make: Callable[[], LiveTraining]) -> None:
        self.make = make
        self.run: LiveTraining | None = None
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self.start = widgets.Button(description="Start", icon="play", tooltip="train, or go on after a pause")
        self.pause = widgets.Button(description="Pause", icon="pause", tooltip="keep the run as it is", disabled=True)
        self.stop = widgets.Button(description="Stop", icon="stop", tooltip="give the run up", disabled=True)
        self.bar = widgets.IntProgress(0, min=0, max=1, layout=widgets.Layout(width="98%"))
        self.message = widgets.HTML("not started")
        self.start.on_click(lambda button: self.begin())
        self.pause.on_click(lambda button: self.halt())
        self.stop.on_click(lambda button: self.give_up())
        super().__init__([in_a_row([self.start, self.pause, self.stop]), self.bar, self.message], ALT)
        self._draw()

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
        """Stop: the curves stay, the next start begins a new run."""
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
                self.message.value = "drawing scenes and computing their features ..."
                await asyncio.sleep(0.05)  # the message goes out first
                self.run = self.make()
            first, since = self.run.step, time.monotonic()
            while not self.run.done:
                self.run.advance(PIECE)
                left = (time.monotonic() - since) / (self.run.step - first) * (self.run.steps - self.run.step)
                self._draw(f", {left:.0f} s left")
                await asyncio.sleep(0.01)  # clicks come in here
        except Exception as error:  # a task would keep it to itself
            self.error = error
            self.run = None
            self._settle(error_message("The training has stopped.", error).value)
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

    def _draw(self, left: str = "") -> None:
        run = self.run
        losses, scores, steps = ([], [], 1) if run is None else (run.losses, run.scores, run.steps)
        self.picture.value = png(training_figure(losses, scores, steps))
        if run is not None:
            self.bar.max, self.bar.value = run.steps, run.step
            recent = f", loss {np.mean([row['main'] for row in losses[-5:]]):.3f}" if losses else ""
            novel = f", novel mIoU {100 * scores[-1].novel:.1f}" if scores else ""
            self.message.value = f"step {run.step} of {run.steps}{recent}{novel}{left}"
