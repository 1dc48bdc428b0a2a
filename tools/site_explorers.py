"""The explorers of the website: pictures of chosen settings, drawn by the package's own functions, and a page of them.

A control is a row of buttons or a slider, and every combination of their values is a stored picture with a sentence:
docs/site/static/explorer.js shows it. Nothing is computed in the browser.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from dpnet_lite.course.analysis.prototypes import MEASURES, class_table
from dpnet_lite.course.analysis.selections import OUTCOMES, all_cycles
from dpnet_lite.course.explorers.ablation import (
    ablation_figure,
    answers_of,
    changes_of,
    shipped_difference,
    variant_name,
)
from dpnet_lite.course.explorers.apps import RULES
from dpnet_lite.course.explorers.correlations import VIEWS, WHEN, collected, correlation_figure, correlations
from dpnet_lite.course.explorers.cycle import cycle_figure
from dpnet_lite.course.explorers.episode import (
    cases_figure,
    episode_figure,
    object_episodes,
    pick_episode,
    toy_episodes,
)
from dpnet_lite.course.explorers.outcomes import outcome, why
from dpnet_lite.course.opened_episode import OpenedEpisode, ShownEpisodes
from dpnet_lite.datasets import OBJECTS_CREDIT
from dpnet_lite.datasets.toy import DEFAULT_GAP
from dpnet_lite.episodes import Episode

STARTS = 8  # start cells of an episode
LIST = 20  # episodes in which a success and a failure are sought
SCENES = 60  # of the drawn world at each gap: three around each class
GAPS = (0.0, 0.25, 0.5, 0.75, 1.0)
CHANGES = {
    "without the second prototype": {"CCM": "off"},
    "without interaction": {"PIM": "off"},
    "one scale": {"MSF": "off"},
    "threshold": {"selection": "threshold"},
}
PLAIN = next(iter(RULES))


@dataclass
class Stored:
    """An explorer: a heading, what to look at, its controls with the names of their values, and its states."""

    title: str
    text: str
    controls: dict[str, Sequence[str]]
    sliders: tuple[str, ...] = ()
    states: list[dict[str, object]] = field(default_factory=list)  # in the order of itertools.product of the controls


class Gallery:
    """Writes pictures into a folder, and makes states of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def state(self, name: str, figure: Figure, said: str, alt: str) -> dict[str, object]:
        file = BytesIO()
        figure.savefig(file, format="png", dpi=110)
        image = Image.open(file).convert("RGB")
        image.save(self.folder / f"{name}.webp", quality=82, method=4)
        size = {"width": image.width, "height": image.height}
        return {"picture": f"{self.folder.name}/{name}.webp", "said": said, "alt": alt, **size}


@lru_cache(maxsize=2)
def cases_of(shown: ShownEpisodes) -> dict[str, Episode]:
    """The first episode of a list that succeeds, and the first that fails; where none does, the worst."""
    ious: dict[Episode, float] = {}
    for episode in shown.episodes(count=LIST, seed=0):
        ious[episode] = shown.open(episode).iou
        kinds = {outcome(iou): one for one, iou in reversed(ious.items())}  # the first of each kind
        if {"success", "failure"} <= kinds.keys():
            return {"a success": kinds["success"], "a failure": kinds["failure"]}
    return {"a success": kinds["success"], f"the worst of {LIST}": min(ious, key=lambda one: ious[one])}


def ways(opened: OpenedEpisode) -> dict[str, object]:
    """How all ways of an episode end, as a small table, and why it came out as it did."""
    counts = all_cycles(opened).outcomes.bincount(minlength=len(OUTCOMES)).tolist()
    rows = list(zip(OUTCOMES, counts, strict=True))
    return {"caption": f"Of all {sum(counts)} ways of this episode", "rows": rows, "note": plain(why(opened))}


def plain(page: str) -> str:
    """HTML without its marks."""
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def telling_starts(opened: OpenedEpisode) -> list[int]:
    """Start cells in the order of the grid: two with each outcome where they exist, filled up with those that do."""
    found = all_cycles(opened)
    by_outcome = []
    for outcome_number in range(len(OUTCOMES)):
        starts = found.starts[found.outcomes == outcome_number].tolist()
        spread = [starts[k * (len(starts) - 1) // (STARTS - 1)] for k in range(STARTS)] if starts else []
        by_outcome.append(list(dict.fromkeys([*spread[1:-1:4], *spread])))  # from the middle first
    chosen = [start for starts in by_outcome for start in starts[:2]]
    rest = [start for column in itertools.zip_longest(*(starts[2:] for starts in by_outcome)) for start in column]
    return sorted([*chosen, *(start for start in rest if start is not None)][:STARTS])


def both_verdicts(opened: OpenedEpisode, start: int) -> str:
    """Whether a way is kept, and whether its cell lies on the object."""
    found = all_cycles(opened)
    position = found.starts.tolist().index(start)
    outcome_number = int(found.outcomes[position])
    match = divmod(int(found.matches[position]), opened.trace.query.shape[-1])
    step = opened.query_image.shape[0] // opened.trace.query.shape[-2]
    place = tuple((k * step + step // 2) for k in match)
    beside = "another object" if any(mask[place] for mask in opened.others.values()) else "the background"
    return (
        "kept, and the cell lies on the object",
        f"kept, but the cell lies on {beside}",
        "rejected, although the cell lies on the object",
        f"rejected, and the cell lies on {beside}",
    )[outcome_number]


def hide_way(figure: Figure) -> None:
    """Leave the start alone: no match, no landing, no arrows, and nothing of what is selected."""
    left, middle, right = figure.axes[:3]
    landing = [line for line in left.lines if line.get_marker() == "s"]
    for artist in (*figure.artists, *middle.lines, *landing):
        artist.set_visible(False)
    middle.title.set_text("query")
    figure.set_layout_engine("none")  # the panels stay where they are
    for artist in (*right.images, *right.collections):
        artist.set_visible(False)
    right.title.set_text("")
    said = "Show the way\nto see all\nselected cells"
    right.text(0.5, 0.5, said, ha="center", va="center", transform=right.transAxes, fontsize=12)


def cycles(gallery: Gallery, cases: dict[str, OpenedEpisode]) -> Stored:
    """Start cells of every outcome; the start is shown first, and its way when it is asked for."""
    steps = [str(number + 1) for number in range(STARTS)]
    text = (
        "A circle in the support: where a way starts. Is its nearest query cell on the object? And does the way back "
        "land in the mask, so that the cell is kept? Guess both, then let the way be shown; right of it: all that "
        "the plain cycle selects. Choose another start, or click into the support."
    )
    stored = Stored("Follow a cycle", text, {"episode": list(cases), "start": steps}, ("start",))
    for case, opened in enumerate(cases.values()):
        height, width = opened.trace.query.shape[-2:]
        for number, start in enumerate(telling_starts(opened)):
            verdict = both_verdicts(opened, start)
            row, column = divmod(start, width)
            figure = cycle_figure(opened, (row, column))
            alt = f"Support and query of the class {opened.class_name} with the way of one cell: {verdict}"
            state = gallery.state(f"cycle_{case}_{number}", figure, f"Start {number + 1}: {verdict}.", alt)
            place = figure.axes[0].get_position()  # after the layout
            x, y = (column + 0.5) / width, (row + 0.5) / height
            state["at"] = [round(place.x0 + x * place.width, 4), round(1 - place.y1 + y * place.height, 4)]
            hide_way(figure)
            asked = f"Start {number + 1}: kept or rejected? On the object or not?"
            alt = f"Support of the class {opened.class_name} with a start cell in its mask, and the query"
            state["before"] = gallery.state(f"cycle_{case}_{number}_start", figure, asked, alt)
            if number == 0:
                state["table"] = ways(opened)
            stored.states.append(state)
    return stored


def rules(gallery: Gallery, worlds: dict[str, ShownEpisodes], count: int = 4) -> Stored:
    """Four episodes of each world under every selection rule."""
    text = (
        "The same four episodes of each world under every rule of lesson 3. Precision is the share of the selection "
        "that lies on the object. The oracle selects with the truth: no method may, but it shows what is possible. On "
        "these object photographs the selection is good already, so that even the oracle adds next to nothing."
    )
    stored = Stored("Selection rules", text, {"world": list(worlds), "rule": list(RULES)})
    for number, shown in enumerate(worlds.values()):
        episodes = list(shown.episodes(count=count, seed=0))
        answers = {rule: [shown.open(episode, **RULES[rule]) for episode in episodes] for rule in RULES}
        best_first = sorted(range(count), key=lambda k: -answers[PLAIN][k].iou)
        for position, rule in enumerate(RULES):
            opened = [answers[rule][k] for k in best_first]
            mean = sum(one.iou for one in opened) / count
            said = f"{rule}: mean IoU of the four {mean:.2f}."
            alt = f"Four episodes under the rule {rule}: support, selected cells and predicted mask"
            stored.states.append(gallery.state(f"rules_{number}_{position}", cases_figure(opened), said, alt))
    return stored


def variants(gallery: Gallery, worlds: dict[str, ShownEpisodes]) -> Stored:
    """A success and a failure of each world, segmented by the full network and by one that lacks or changes a part."""
    text = (
        "Left to right: the support, the query, the mask of the full network and that of a network without a part, or "
        "with another selection. White: the outline of the truth. One episode proves nothing: below, the difference to "
        "the full network over whole studies, with 95 % intervals; the chosen one is lit."
    )
    episodes = [f"{name}, {kind}" for name, shown in worlds.items() for kind in cases_of(shown)]
    controls = {"episode": episodes, "change": list(CHANGES)}
    stored = Stored("With and without a part", text, controls)
    for (name, shown), (weights, data) in zip(worlds.items(), (("toy", "toy"), ("photographs", "photos")), strict=True):
        bars = [shipped_difference(variant_name(chosen), changes_of(chosen), data) for chosen in CHANGES.values()]
        shipped = [bar for bar in bars if bar is not None]
        for case, (kind, episode) in enumerate(cases_of(shown).items()):
            for position, chosen in enumerate(CHANGES.values()):
                answers = answers_of(shown, weights, episode, changes_of(chosen))
                ious = [f"{answer.iou:.2f}" for answer in answers]
                said = f"IoU of the full network {ious[0]}" + (f", of the changed one {ious[1]}." if ious[1:] else ".")
                alt = f"{name}, {kind}: masks of the full network and without or with another part; bars of the studies"
                figure = ablation_figure(answers, variant_name(chosen), [], shipped)
                state = gallery.state(f"variants_{weights}_{case}_{position}", figure, said, alt)
                stored.states.append(state)
    return stored


def gaps(gallery: Gallery, count: int = 2) -> Stored:
    """Some classes of the drawn world from no gap to the whole one."""
    text = (
        "The gap says how far colours, angle and light may stray between two scenes of a class, from 0 (alike) to 1. "
        "The scenes are drawn again for each gap. Each picture is one episode, which can go against the rule: lesson 8 "
        "averages over many."
    )
    world = toy_episodes(0, DEFAULT_GAP)
    names = [world.class_names[index] for index in world.novel[:count]]
    stored = Stored("Turn the gap", text, {"class": names, "gap": [f"{gap:g}" for gap in GAPS]}, ("gap",))
    for position, name in enumerate(names):
        for gap in GAPS:
            shown = toy_episodes(0, gap, SCENES)
            opened = shown.open(pick_episode(shown, position))
            alt = f"The class {name} at gap {gap:g}: support, query, predicted mask and truth"
            said = f"Gap {gap:g}, one episode. {plain(why(opened))}"
            stored.states.append(gallery.state(f"gap_{position}_{gap:g}", episode_figure(opened), said, alt))
    return stored


def relatives(names: Sequence[str], row: int, values: Sequence[float]) -> dict[str, int]:
    """Of each kind of other class, the one with the highest value in a class's row; and the class itself."""
    texture, outline = names[row].split()
    shared = [(other.split()[1] == outline, other.split()[0] == texture) for other in names]
    kinds = {"itself": (True, True), "same outline": (True, False), "same texture": (False, True)}
    kinds["neither"] = (False, False)
    return {
        kind: max((k for k in range(len(names)) if shared[k] == of), key=values.__getitem__)
        for kind, of in kinds.items()
    }


def cells(gallery: Gallery) -> Stored:
    """A class of the drawn world beside itself and its nearest of each kind, before and after the interaction."""
    found, measure, row = collected(False)[1], list(MEASURES)[-1], 0
    names = found.class_names
    tables = {when: class_table(correlations(found, measure, when), found.labels)[row].tolist() for when in WHEN}
    columns = relatives(names, row, tables[WHEN[0]])
    text = (
        f"How alike are prototypes of two classes, by the {measure} of lesson 9? The row is P of {names[row]}; choose "
        "the class of P_q: the same, or the most alike that shares its outline, its texture, or neither. On the "
        "right two episodes behind the cell: in the lower maps, bright is alike. Which other objects light up?"
    )
    stored = Stored("Which prototypes are alike", text, {"class of P_q": list(columns), "interaction": list(WHEN)})
    for kind, column in columns.items():
        for when in WHEN:
            told = f"{names[row]} and {names[column]}, {measure} {when} the interaction: {tables[when][column]:+.2f}."
            figure = correlation_figure(False, VIEWS[0], measure, when, row, column)
            alt = f"A table of classes, framed {names[row]} and {names[column]}; two episodes and their similarity maps"
            name = f"cells_{kind.replace(' ', '_')}_{when.split()[-1] if when != WHEN[-1] else 'change'}"
            stored.states.append(gallery.state(name, figure, told, alt))
    return stored


def markup(stored: Stored) -> str:
    """The explorer as a section of a page; without JavaScript its first picture stands there."""
    assert len(stored.states) == len(list(itertools.product(*stored.controls.values())))
    first = stored.states[0]
    picture = " ".join(f'{name}="{html.escape(str(first[key]))}"' for name, key in PICTURE.items())
    controls = [{"name": n, "values": list(v), "slider": n in stored.sliders} for n, v in stored.controls.items()]
    data = json.dumps({"controls": controls, "states": stored.states}).replace("</", "<\\/")
    return (
        f"## {stored.title}\n\n{stored.text}\n\n```{{raw}} html\n"
        f'<div class="explorer"><div class="controls"></div><div class="frame"><img {picture} loading="lazy"></div>'
        f'<p class="said" aria-live="polite">{html.escape(str(first["said"]))}</p>'
        f'<script type="application/json">{data}</script></div>\n```\n\n'
    )


PICTURE = {"src": "picture", "alt": "alt", "width": "width", "height": "height"}


def write(folder: Path) -> str:
    """Write all pictures into the folder; returns the page's sections."""
    gallery = Gallery(folder)
    worlds: dict[str, ShownEpisodes] = {
        "drawn world": toy_episodes(0, DEFAULT_GAP),
        "object photographs": object_episodes(),
    }
    cases = {}
    for name, shown in worlds.items():
        for kind, episode in cases_of(shown).items():
            cases[f"{name}, {kind}"] = shown.open(episode, **RULES[PLAIN])
    makers: tuple[Callable[[], Stored], ...] = (
        lambda: cycles(gallery, cases),
        lambda: rules(gallery, worlds),
        lambda: variants(gallery, worlds),
        lambda: gaps(gallery),
        lambda: cells(gallery),
    )
    return "".join(markup(make()) for make in makers) + f"{OBJECTS_CREDIT}\n"
