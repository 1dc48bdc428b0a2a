"""Write docs/ablations/: a report, with its figures, of every ablation whose rows come with the package.

`ablation_section` gives the part of docs/results.md, `ablation_table` that of README.md. No number is typed.
"""

from __future__ import annotations

from pathlib import Path

from dpnet_lite.ablation.comparisons import Judged, judge
from dpnet_lite.ablation.report import verdict_table, write_report
from dpnet_lite.ablation.studies import Study, load_study
from dpnet_lite.ablation.table import SHIPPED, Row, shipped_names, shipped_rows

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "docs" / "ablations"
NAMES = {"toy": "Toy world", "photos": "Photographs"}
LEAD = 0.05  # mIoU that the full network is to be ahead of its control on the toy world, set beforehand
MODULE_GOALS = ("CCM, alone", "PIM, with CCM and MSF", "MSF, with CCM and PIM")  # each to be above 0, set beforehand


INTRODUCTION = """## Ablations

What they are and how they are judged: lesson 11. Every report names its folds, seeds, budget and code. The *full*
network of these studies has PIM in the form "joint" and MSF in the form "aspp". Both were chosen with training
seeds from 11 to 13, which no table here uses, and are the default since: ASPP on two folds with one or two seeds,
"joint" because it led no interaction on all folds; other forms of PIM had fewer seeds (last rows of the trials)."""


def shipped(data: str) -> list[tuple[Study, list[Row]]]:
    """The studies whose rows come with the package, in the order of their names."""
    return [(load_study(name), shipped_rows(name, data)) for name in shipped_names(data)]


def goals(judged: list[Judged]) -> str:
    """The goals of the toy world, and whether they were reached."""
    by_name = {entry.comparison.name: entry for entry in judged}
    full = by_name["full network"]
    reached = full.difference >= LEAD and full.interval.low > 0
    lines = [f"- full network at least {100 * LEAD:.0f} points above support only, interval clear of 0: "
             f"{100 * full.difference:+.1f}, {'reached' if reached else 'missed'}"]  # fmt: skip
    for name in MODULE_GOALS:
        entry = by_name[name]
        verdict = "reached" if entry.verdict == "better" else f"missed ({entry.verdict})"
        lines.append(f"- {name}: above 0, interval clear of 0: {100 * entry.difference:+.1f}, {verdict}")
    return "\n".join(lines)


def ablation_section() -> str:
    """The part of docs/results.md on ablations: every verdict, and where the whole report is."""
    parts = [INTRODUCTION]
    for data in sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir()):
        for study, rows in shipped(data):
            judged = judge(study, rows)
            link = f"[report](ablations/{data}/{study.name}/report.md)"
            parts.append(f"### {NAMES.get(data, data)}: {study.title}\n\n{study.question} {link}")
            parts.append(verdict_table(judged, study))
            if data == "toy" and study.name == "modules":
                parts.append(f"Goals that were set beforehand:\n\n{goals(judged)}")
    return "\n\n".join(parts)


def ablation_table() -> str:
    """The verdicts on the modules, for README.md."""
    study, rows = load_study("modules"), shipped_rows("modules")
    return verdict_table(judge(study, rows), study)


def main() -> None:
    for data in NAMES:
        for study, rows in shipped(data):
            write_report(study, rows, judge(study, rows), REPORTS / data / study.name, page=False)


if __name__ == "__main__":
    main()
