"""The live trainer: curves as a pure function, and a widget that trains piece by piece. Needs ipywidgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dpnet_lite.course.explorers.panels import enlarge, new_figure, png
from dpnet_lite.course.explorers.shell import BackgroundJob
from dpnet_lite.course.live_training import LiveTraining, Score
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE

_ALT = "Curves of a training run: the loss, and mIoU on base and on novel classes, against the step"


def training_figure(losses: Sequence[Mapping[str, float]], scores: Sequence[Score], steps: int) -> Figure:
    """Left the loss of every tenth step, right mIoU on base and novel classes; both axes reach to `steps`."""
    figure, grid = new_figure(2, width=4, height=3.2)
    loss, miou = grid[0]
    loss.plot([row["step"] for row in losses], [row["main"] for row in losses], color=BLACK, linewidth=1)
    loss.set(ylabel="cross-entropy", ylim=(0, None) if losses else (0, 1))
    for name, colour, marker, line in (("base", ORANGE, "s", "--"), ("novel", BLUE, "o", "-")):
        values = [getattr(score, name) for score in scores]
        steps_scored = [score.step for score in scores]
        miou.plot(steps_scored, values, line, marker=marker, color=colour, label=f"{name} classes", clip_on=not scores)
    miou.set(ylabel="mIoU", ylim=(0, 1))
    miou.legend(frameon=False, fontsize=13, loc="lower right")
    for axes in grid[0]:
        axes.set(xlabel="step", xlim=(0, steps))
        if not losses:
            axes.text(0.5, 0.6, "press Start", transform=axes.transAxes, ha="center", fontsize=13)
        axes.spines[["top", "right"]].set_visible(False)
    enlarge(figure)
    return figure


Curves = tuple[Sequence[Mapping[str, float]], Sequence[Score], int]  # losses, scores and steps, as `training_figure`


class LiveTrainer(BackgroundJob[LiveTraining]):
    """Start, pause and stop a training run, with curves that grow.

    Args:
        make: gives a new run; it is called at the first start, and at the first start after a stop.
        example: the curves of another run, shown until this one has begun.
    """

    preparing = "drawing scenes and computing their features ..."

    def __init__(self, make: Callable[[], LiveTraining], example: Curves | None = None) -> None:
        self.make, self.example = make, example
        super().__init__(_ALT)
        if example is not None:
            self.message.value = "an example; Start begins a run of your own"
        self.draw()

    def make_run(self) -> LiveTraining:
        """A new training run."""
        return self.make()

    def draw(self) -> str:
        """The curves so far."""
        run = self.run
        losses, scores, steps = (self.example or ([], [], 1)) if run is None else (run.losses, run.scores, run.steps)
        self.picture.value = png(training_figure(losses, scores, steps))
        recent = f", loss {np.mean([row['main'] for row in losses[-5:]]):.3f}" if losses else ""
        return recent + (f", novel mIoU {100 * scores[-1].novel:.1f}" if scores else "")
