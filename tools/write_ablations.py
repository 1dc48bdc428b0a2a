"""Write docs/ablations/: a report, with its figures, of every ablation whose rows come with the package.

`ablation_section` gives the part of docs/results.md, `ablation_table` that of README.md. No number is typed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dpnet_lite.ablation.comparisons import JUDGED_RESAMPLES, Judged, judge, labelled_scores, runs_of
from dpnet_lite.ablation.report import verdict_table, write_report
from dpnet_lite.ablation.studies import Study, load_study
from dpnet_lite.ablation.table import Row, shipped_names, shipped_rows
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import mean_paired_difference, percent
from dpnet_lite.experiments.tables import aligned

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "docs" / "ablations"
NAMES = {"toy": "Toy world", "photos": "Photographs"}
OPTIONS = {
    "toy": "",
    "photos": "--data folder:photos --backbone vgg16 --backbone-weights vgg16_features_imagenet_fp16.safetensors",
}
LEAD = 0.05  # mIoU that the full network is to be ahead of its control on the toy world, set beforehand
MODULE_GOALS = ("CCM, alone", "PIM, with CCM and MSF", "MSF, with CCM and PIM")  # each to be above 0, set beforehand


INTRODUCTION = """## Ablations

What they are and how they are judged: lesson 11. Every report names its folds, seeds, budget, code and machine. p is
corrected within each study, so it differs for the same comparison. The *full* network of these studies has PIM in the
form "joint" and MSF in the form "aspp". Both were chosen with training seeds from 11 to 13, which no table here uses,
and are the default since: ASPP on two folds with one or two seeds, "joint" because its mean over four folds led that
without an interaction. It did not when this was tried again on a GPU (last rows of the trials). The novel classes were
the same in the trials, so this keeps apart the luck of the seeds, not that of the classes. The rivals are small
reconstructions on the same frozen features, with our number of steps and learning rate; their settings were not
searched as those of our head were, and PFENet-style has neither an auxiliary branch nor dilated convolutions.

The rows were made on one NVIDIA H100 with several runs at once, in float32 with PyTorch's defaults, which may use TF32
in convolutions; one pair of photographs in "shots" (fold 3, seed 2) on a CPU. The hash of the code has since been made
the same on all versions of Python, and stands in the rows in its new form."""

PHOTOGRAPHS = """The studies on photographs: 520 of COCO 2017, VGG-16, the earlier settings of the section "Photographs,
fp32 and five shots" but for the forms of PIM and MSF; scored at 256 px. A photograph that shows a novel class is not
trained on. With many shots, support images repeat where a class has too few. Here the fusion sees similarity maps
alone, so there is little for PIM to act on. The weight of the foreground was chosen on fold 0 with seed 1 (trials),
which these tables contain."""


def shipped(data: str) -> list[tuple[Study, list[Row]]]:
    """The studies whose rows come with the package, in the order of their names."""
    return [(load_study(name), shipped_rows(name, data)) for name in shipped_names(data)]


def command(data: str, study: Study, rows: list[Row]) -> str:
    """The command whose runs the rows are."""
    parts = [f"dpnet-lite ablate {study.name}", OPTIONS[data]]
    seeds = sorted({row["seed"] for row in rows})
    parts += [] if seeds == list(study.seeds) else [f"--seeds {' '.join(map(str, seeds))}"]
    devices = {row["identity"]["device"] for row in rows} - {"cpu"}
    return " ".join(part for part in (*parts, *(f"--device {device}" for device in devices)) if part)


def goals(judged: list[Judged]) -> str:
    """The goals of the toy world, and whether they were reached."""
    by_name = {entry.comparison.name: entry for entry in judged}
    full = by_name["full network"]
    reached = full.difference >= LEAD and full.interval.low > 0
    lines = [
        f"- full network at least {100 * LEAD:.0f} points above support only, interval clear of 0: "
        f"{100 * full.difference:+.1f}, {'reached' if reached else 'missed'}"
    ]
    for name in MODULE_GOALS:
        entry = by_name[name]
        verdict = "reached" if entry.verdict == "better" else f"missed ({entry.verdict})"
        lines.append(f"- {name}: above 0, interval clear of 0: {100 * entry.difference:+.1f}, {verdict}")
    return "\n".join(lines)


def best_rule(rows: list[Row], fold: int) -> tuple[str, list[EpisodeScores], list[EpisodeScores]]:
    """The best of the rules without training on a fold, its scores and those of the full network, seed by seed."""
    study = load_study("rivals")
    scores = labelled_scores([row for row in rows if row["fold"] == fold])
    runs = {variant.name: list(runs_of(scores, variant.name, "1-shot").values()) for variant in study.variants}
    rules = [variant.name for variant in study.variants if variant.method != "trained"]
    best = max(rules, key=lambda name: float(np.mean([run.miou for run in runs[name]])))
    return best, runs[best], runs["full"]


def photograph_goal(rows: list[Row]) -> str:
    """The goal on photographs, fold by fold: the full network above the best rule without training."""
    table = [["fold", "best rule without training", "its mIoU %", "full network", "difference, points [95 %]", "goal"]]
    for fold in sorted({row["fold"] for row in rows}):
        name, theirs, ours = best_rule(rows, fold)
        difference, interval = mean_paired_difference(ours, theirs, n_resamples=JUDGED_RESAMPLES)
        goal = "missed" if difference <= 0 else "reached" if interval.low > 0 else "reached by the mean"
        means = (percent(float(np.mean([run.miou for run in runs]))) for runs in (theirs, ours))
        table.append([str(fold), name, *means, percent(difference, interval, signed=True), goal])
    return aligned(table)


def ablation_section() -> str:
    """The part of docs/results.md on ablations: every verdict, and where the whole report is."""
    parts = [INTRODUCTION]
    for data in NAMES:
        parts += [PHOTOGRAPHS] if data == "photos" else []
        for study, rows in shipped(data):
            judged = judge(study, rows)
            link = f"[report](ablations/{data}/{study.name}/report.md)"
            parts.append(f"### {NAMES.get(data, data)}: {study.title}\n\n{study.question} {link}")
            parts.append(verdict_table(judged, study))
            if data == "toy" and study.name == "modules":
                parts.append(f"Goals that were set beforehand:\n\n{goals(judged)}")
            if data == "photos" and study.name == "rivals":
                parts.append(
                    "Goal that was set beforehand: above the best rule without training on every fold. The "
                    'rule is the best of three by the same test. "By the mean": the interval of that fold '
                    f"contains 0.\n\n{photograph_goal(rows)}"
                )
    return "\n\n".join(parts)


def ablation_table() -> str:
    """The verdicts on the modules, for README.md."""
    study, rows = load_study("modules"), shipped_rows("modules")
    return verdict_table(judge(study, rows), study)


def main() -> None:
    for data in NAMES:
        for study, rows in shipped(data):
            judged, folder = judge(study, rows), REPORTS / data / study.name
            write_report(study, rows, judged, folder, command=command(data, study, rows))


if __name__ == "__main__":
    main()
