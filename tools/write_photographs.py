"""The section of docs/results.md on photographs, from the files in docs/results/photographs/."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dpnet_lite.ablation.comparisons import judge
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import shipped_rows, unpack_scores
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import mean_interval, mean_paired_difference, percent
from dpnet_lite.experiments.jobs import FULL, SUPPORT_ONLY, TRAINING_FREE
from dpnet_lite.experiments.tables import aligned

FOLDER = Path(__file__).parent.parent / "docs" / "results" / "photographs"
RULES = (TRAINING_FREE, "self-support", "nearest pixel")
BACKBONES = {"mobilenet_v2": "MobileNetV2", "vgg16": "VGG-16"}
LISTS = {"1-shot": "1 shot", "5-shot": "5 shots", "kin": "1 shot, kin"}
Runs = dict[str, list[EpisodeScores]]  # by method, a run for each fold

HEAD = """## Photographs

Rules that need no training, on the same frozen features: *training-free* (each pixel to the nearer of two support
prototypes), *self-support* (the same after the query's sure pixels have joined the prototypes, after SSP), *nearest
pixel* (the class of the nearest support pixel). *Support only* is DPNet with P in the place of P_q.

### The shipped weights on the 13 shipped objects

```
make weights
python tools/score_photographs.py objects
```

The head was trained on photographs of other things: its JSON file names what was left out. Its settings were chosen on
folds of other photographs, never on these. *1 shot*: every ordered pair of photographs of an object. *5 shots*: as many
episodes, drawn; four to six photographs an object, so support images repeat. *Kin*: support and query show two
objects of a kind (sneaker and shiny sneaker; teddy bear, toy sloth and toy wolf), every pair. {counts} Episodes share
photographs; the intervals are widened for it, as well as so few images allow. *Ahead on*: the objects, or kinds, on
which DPNet has the higher IoU.
"""

FOLDS = """### Heads trained on folds of photographs, two backbones

```
{commands}
```

520 photographs of COCO 2017, four folds of classes as in COCO-20^i, 300 test episodes per fold and number of shots, one
seed; a photograph that shows a novel class is not trained on. Input {size} px. Loss, temperatures, size and stages were
chosen on these same folds (below), with MobileNetV2 and nearly always by DPNet's own score. So these scores are
somewhat too good, least so for VGG-16, with which none of these choices was made. The rules have no settings; support
only shares all of DPNet's, but they were not searched for it.

Model: `{model}`

Training: `{training}`
"""

FOUND = """### What was wrong with large objects

With the earlier settings (first row) the head was below training-free on large objects, and above it on all others.
The table has the mIoU by fold, and the mean IoU of an episode by the share of the query that the object covers (in
brackets: minus training-free, on the features of that row), all in %; MobileNetV2, one seed, 500 one-shot episodes per
fold. Two things were changed. The temperatures of the selection were those of the drawn world. On the shipped
photographs they leave {drawn:.1f} cells in the selection of the shipped head, those of now {now:.1f} (median over the
1-shot episodes of 1 / sum of squared shares). And the loss counted pixels, not overlap. Rows are in the order in which
they were tried: single runs, so differences of half a point are noise. The present settings are those of the last row
at 320 px, with the dilation of both strides.
"""


def runs_of(record: Mapping[str, Any], which: str) -> Runs:
    """The scores of one kind of episodes."""
    found: Runs = {}
    for rows in record["folds"].values():
        for method, name, packed in rows:
            if name == which:
                found.setdefault(method, []).append(unpack_scores(packed, record["images"]))
    return {method: found[method] for method in (*RULES, SUPPORT_ONLY, FULL)}


def shots_of(record: Mapping[str, Any]) -> list[str]:
    """The kinds of episodes in a file of results."""
    return list(dict.fromkeys(name for rows in record["folds"].values() for _, name, _ in rows))


def read(name: str) -> dict[str, Any]:
    """A file of results."""
    record: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return record


def difference(runs: Runs, rival: str) -> str:
    """DPNet minus a rival, with its paired interval."""
    return percent(*mean_paired_difference(runs[FULL], runs[rival], "miou"), signed=True)


def objects_table(record: Mapping[str, Any]) -> str:
    """Scores and differences on the shipped objects."""
    rows = [["episodes", "method", "mIoU % [95 % interval]", "DPNet minus it", "ahead on"]]
    for which, label in LISTS.items():
        runs = runs_of(record, which)
        for method, scores in runs.items():
            score = percent(scores[0].miou, mean_interval(scores, "miou", resample_runs=True))
            cells = ["", ""] if method == FULL else [difference(runs, method), _ahead(runs, method)]
            rows.append([label, method, score, *cells])
    return aligned(rows)


def _ahead(runs: Runs, rival: str) -> str:
    own, other = (runs[method][0].class_iou() for method in (FULL, rival))
    return f"{sum(own[index] > other[index] for index in own)} of {len(own)}"


def per_object(record: Mapping[str, Any]) -> str:
    """IoU of each object, one shot."""
    runs = runs_of(record, "1-shot")
    rows = [["IoU %, 1 shot", *runs]]
    for index, name in enumerate(runs[FULL][0].class_names):
        rows.append([name, *(percent(scores[0].class_iou()[index]) for scores in runs.values())])
    return aligned(rows)


def folds_table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Both backbones by fold, and differences over all folds."""
    rows = [["backbone", "shots", "method", *(f"fold {fold}" for fold in range(4)), "mean", "DPNet minus it"]]
    for backbone, record in records.items():
        for which in shots_of(record):
            runs = runs_of(record, which)
            for method, scores in runs.items():
                values = [score.miou for score in scores]
                cells = [percent(value) for value in (*values, float(np.mean(values)))]
                last = "" if method == FULL else difference(runs, method)
                rows.append([BACKBONES[backbone], which[0], method, *cells, last])
    return aligned(rows)


def margins(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Whether DPNet is above the best rule, fold by fold and in all."""
    lines = []
    for backbone, record in records.items():
        for which in shots_of(record):
            runs = runs_of(record, which)
            best = max(RULES, key=lambda rule: float(np.mean([score.miou for score in runs[rule]])))
            ahead = [own.miou - max(runs[rule][fold].miou for rule in RULES) for fold, own in enumerate(runs[FULL])]
            told = ", ".join(f"fold {fold} {100 * margin:+.1f}" for fold, margin in enumerate(ahead))
            lead = f"above {best}, the best in all, by {difference(runs, best)}"
            lines.append(f"- {BACKBONES[backbone]}, {which}: above the best rule of each fold: {told}; {lead}")
    return "\n".join(lines)


def trials() -> str:
    """The trials by fold and by size of the object."""
    shares = ("below 5 %", "5 to 12 %", "12 to 25 %", "above 25 %")
    rows = [["settings", "px", "mean", "minus training-free", *(f"fold {fold}" for fold in range(4)), *shares]]
    for trial in read("trials"):
        lead = float(np.mean(trial["head"]) - np.mean(trial["free"]))
        numbers = [f"{value:.1f}" for value in trial["head"]]
        areas = [f"{area['head']:.1f} ({area['head'] - area['free']:+.1f})" for area in trial["by_area"]]
        mean = f"{float(np.mean(trial['head'])):.1f}"
        rows.append([trial["settings"], str(trial["size"]), mean, f"{lead:+.1f}", *numbers, *areas])
    return aligned(rows)


def readme_table() -> str:
    """MobileNetV2 on the four folds, and what its intervals leave out, for README."""
    rows = [["method", "shots", "mIoU %, mean of four folds", "DPNet minus it [95 % interval]", "folds ahead"]]
    record = read("mobilenet_v2")
    for which in shots_of(record):
        runs = runs_of(record, which)
        for method, scores in runs.items():
            ahead = sum(own.miou > other.miou for own, other in zip(runs[FULL], scores, strict=True))
            cells = ["", ""] if method == FULL else [difference(runs, method), f"{ahead} of {len(scores)}"]
            rows.append([method, which[0], percent(float(np.mean([score.miou for score in scores]))), *cells])
    return f"{aligned(rows)}\n\n{reservation()}"


def reservation() -> str:
    """What the intervals of the table leave out, and what VGG-16 and the study with several seeds say."""
    runs = runs_of(read("vgg16"), "1-shot")
    ahead = sum(own.miou > other.miou for own, other in zip(runs[FULL], runs[SUPPORT_ONLY], strict=True))
    rows = shipped_rows("modules", "photos")
    (study,) = (one for one in judge(load_study("modules"), rows) if one.comparison.name == "full network")
    text = (
        "Differences are taken before rounding. Intervals hold the luck of the episodes only; settings were nearly "
        "always chosen by DPNet's own score. "
        f"On VGG-16, one shot, DPNet minus support only is {difference(runs, SUPPORT_ONLY)}, ahead in {ahead} of "
        f"{len(runs[FULL])} folds; the study with {len({row['seed'] for row in rows})} seeds, on VGG-16 too: "
        f"{percent(study.difference, study.interval, signed=True)}, {study.verdict} "
        "([lesson 11](notebooks/11_ablations.ipynb))."
    )
    return "\n".join(textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False))


def photographs_section() -> str:
    """All of it."""
    shown = read("objects")
    counts = ", ".join(f"{label}: {len(runs_of(shown, which)[FULL][0].counts)}" for which, label in LISTS.items())
    head = HEAD.format(counts=f"Episodes: {counts}. Backbone {shown['backbone']}, input {shown['size']} px.")
    records = {name: read(name) for name in BACKBONES if (FOLDER / f"{name}.json").exists()}
    first = next(iter(records.values()))
    commands = "\n".join(
        f"python tools/score_photographs.py folds SHARED --backbone {name}"
        + ("" if record["precision"] == "fp32" else f" --precision {record['precision']}")
        + ("" if len(shots_of(record)) == 2 else " --shots 1")
        for name, record in records.items()
    )
    settings = {key: json.dumps(first[key]) for key in ("model", "training")}
    folds = FOLDS.format(commands=commands, size=first["size"], **settings)
    found = FOUND.format(**shown["effective_cells"])
    tables = (folds, folds_table(records), margins(records), found, trials())
    return "\n\n".join(part.strip() for part in (head, objects_table(shown), per_object(shown), *tables)) + "\n"
