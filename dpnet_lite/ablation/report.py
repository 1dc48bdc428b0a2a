"""The report of a study: tables as Markdown, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpnet_lite.ablation.comparisons import NO_DIFFERENCE, Judged, labelled_scores, runs_of
from dpnet_lite.ablation.studies import Study
from dpnet_lite.ablation.table import Row
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import percent
from dpnet_lite.experiments.tables import aligned, mean, score_cell
from dpnet_lite.storage.files import write_atomically

_NOTES = f"""\
Each variant is trained on the same episodes, from the same initial weights where shapes allow, for the steps that
Provenance names, and scored on the same test episodes of novel classes. mIoU: pixels added up per class, averaged over
the classes of a fold, then over folds and seeds. Brackets: 95 % bootstrap intervals over episodes, their images and
seeds, widened as Student's t is, for seeds and images are few; with one seed a fold, over episodes only, one training.
That of a difference is paired. Wins: pairs of fold and seed in which the variant is ahead. p: two-sided, Student's t
on the mean differences of the folds, which are few, so it asks for more than the interval: whether other classes would
say the same; with one fold it is 1. Corrected after Holm over all comparisons of this study.
The verdict goes by the interval alone: a difference whose interval contains 0 is called
"{NO_DIFFERENCE}". "Weak": the corrected p is above 0.05."""
_ALT = {
    "differences": "Differences of mIoU with their intervals; the numbers stand in the table of verdicts",
    "scores": "mIoU of every variant with its interval; the numbers stand in the table of scores",
    "conditions": "mIoU of every variant along the conditions; the numbers stand in the table of scores",
}


def report_tables(study: Study, rows: Sequence[Row], judged: Sequence[Judged], command: str) -> str:
    """The report as Markdown, without figures: question, verdicts, scores, cost, provenance with the `command`."""
    parts = [
        f"# {study.title}",
        study.question,
        "## Verdicts",
        verdict_table(judged, study),
        _NOTES,
        "## Scores",
        "\n".join([score_table(study, rows), *repeat_notes(study, rows)]),
        "## Cost",
        cost_table(study, rows),
        "## Provenance",
        _provenance(rows, command),
    ]
    return "\n\n".join(parts) + "\n"


def verdict_table(judged: Sequence[Judged], study: Study) -> str:
    """A row a comparison and condition."""
    table = [
        ["comparison", "condition", "variant against control", "mIoU, points [95 %]", "wins", "p, Holm", "verdict"]
    ]
    for entry in judged:
        row = [entry.comparison.name, entry.condition, f"{entry.comparison.variant} against {entry.comparison.control}"]
        row += [percent(entry.difference, entry.interval, signed=True), f"{entry.wins} of {entry.pairs}"]
        row += ["< 0.001" if entry.p_corrected < 0.001 else f"{entry.p_corrected:.3f}", entry.graded_verdict]
        table.append(row)
    several = len(study.conditions) > 1
    return aligned(table if several else [[first, *rest] for first, _, *rest in table])


def score_table(study: Study, rows: Sequence[Row]) -> str:
    """mIoU of every variant under every condition; FB-IoU as well where there is one condition."""
    scores = labelled_scores(rows)
    conditions = [condition.name for condition in study.conditions]
    single = len(conditions) == 1
    table = [["variant", "what", *(["mIoU % [95 %]", "FB-IoU %"] if single else [f"mIoU %, {c}" for c in conditions])]]
    for variant in study.variants:
        cells = []
        for condition in conditions:
            runs: list[EpisodeScores] = list(runs_of(scores, variant.name, condition).values())
            cells.append(score_cell(runs))
            cells += [percent(mean(runs, "fb_iou"))] if single else []
        table.append([variant.name, variant.what, *cells])
    return aligned(table)


def repeat_notes(study: Study, rows: Sequence[Row]) -> list[str]:
    """A line for each condition in which a support holds an image more than once."""
    notes, scores = [], labelled_scores(rows)
    for condition in study.conditions:
        runs = runs_of(scores, study.variants[-1].name, condition.name).values()
        known = [run.images[:, 1:] for run in runs if run.images is not None]
        different = np.array([len(set(support)) for supports in known for support in supports.tolist()])
        if share := float(np.mean(different < condition.n_shot)) if len(different) else 0.0:
            notes.append(
                f"\n{condition.name}: in {100 * share:.0f} % of the episodes support images repeat, because their "
                f"class has fewer other images than shots; at worst {different.min()} different."
            )
    return notes


def cost_table(study: Study, rows: Sequence[Row]) -> str:
    """Trained parameters of each variant and its mean times, on the machine that ran it."""
    table = [["variant", "trained parameters", "training, seconds", "scoring, milliseconds per episode"]]
    plain = [condition.name for condition in study.conditions if condition.mask == "as drawn"]
    first = [*plain, study.conditions[0].name][0]
    for variant in study.variants:
        own = [row for row in rows if row["variant"] == variant.name and row["condition"] == first]
        seconds = [sum(row[key] for row in own) / len(own) for key in ("training_seconds", "seconds_per_episode")]
        table.append([variant.name, f"{own[0]['parameters']:,}", f"{seconds[0]:.1f}", f"{1000 * seconds[1]:.1f}"])
    remark = "Times are those of the machine named below and vary with what else it does: read large differences only."
    return f"{aligned(table)}\n\nScoring: {first}. {remark}"


def _provenance(rows: Sequence[Row], command: str) -> str:
    """What a reader needs to run it again."""

    def distinct(values: Sequence[object], between: str = ", ") -> str:
        return between.join(sorted({str(value) for value in values}))

    versions = distinct([", ".join(f"{k} {v}" for k, v in row["versions"].items()) for row in rows], "; ")
    folds, seeds = ([row[key] for row in rows] for key in ("fold", "seed"))
    settings = {row["variant"]: row["identity"]["training"] for row in rows if "training" in row["identity"]}
    budgets = {name: f"{own['steps']} steps of {own['batch_size']} episodes" for name, own in settings.items()}
    if len({*budgets.values()}) == 1:
        budgets = {"every variant": next(iter(budgets.values()))}
    steps = "".join(f"- {budget} for {name}\n" for name, budget in budgets.items())
    identities = [row["identity"] for row in rows]
    computed = distinct([f"device {own['device']}, {own['threads']} thread(s) a run" for own in identities], "; ")
    n_episodes = distinct([own["n_episodes"] for own in identities])
    lists = sorted({row["scores"]["episodes_sha256"][:12] for row in rows})
    return (
        f"- folds {distinct(folds)}; seeds {distinct(seeds)}; {n_episodes} test episodes per fold and condition\n"
        f"{steps}- rows: {len(rows)}, made by code {distinct([row['code'] for row in rows])}\n- {versions}\n"
        f"- machines: {distinct([row['machine'] for row in rows], '; ')}; {computed}\n"
        f"- test episodes, SHA-256: {', '.join(lists)}\n- command: `{command}`"
    )


def write_report(
    study: Study, rows: Sequence[Row], judged: Sequence[Judged], folder: Path, *, command: str
) -> list[Path]:
    """Write report.md and the figures to `folder`; returns their paths. The report names the `command` that made it."""
    from dpnet_lite.ablation.figures import study_figures
    from dpnet_lite.experiments.plots import png

    text = report_tables(study, rows, judged, command)
    files = {f"{name}.png": png(figure, dpi=130) for name, figure in study_figures(study, rows, judged).items()}
    pictures = "\n\n".join(f"![{_ALT[name.removesuffix('.png')]}]({name})" for name in files)
    files["report.md"] = f"{text}\n## Figures\n\n{pictures}\n".encode()
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]
