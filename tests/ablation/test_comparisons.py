"""The statistics of an ablation, against plain counting, by hand, and on runs of which we know that nothing differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dpnet_lite.ablation.comparisons import NO_DIFFERENCE, Judged, fold_p, holm, judge
from dpnet_lite.ablation.studies import Comparison, Study, Variant
from dpnet_lite.ablation.table import pack_scores, unpack_scores
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import Interval

N_CLASSES, PER_CLASS, PIXELS = 10, 12, 9216


def simulated_study(lead: float, seed: int, folds=(0, 1, 2, 3), seeds=(1, 2, 3, 4, 5)) -> tuple[Study, list[dict]]:
    """Two variants whose true IoU differs by `lead`; luck of episode, of training seed and of both together."""
    generator = np.random.default_rng(seed)
    study = Study(
        "s", "t", "q?", (Variant("a"), Variant("b")), (Comparison("b or a", "b", "a"),), folds=folds, seeds=seeds
    )
    rows = []
    for fold in folds:
        difficulty = generator.uniform(0.2, 0.8, N_CLASSES * PER_CLASS)
        size = generator.integers(300, 2000, N_CLASSES * PER_CLASS)
        for run in seeds:
            for name, gain in (("a", 0.0), ("b", lead)):
                luck = generator.normal(0, 0.015) + generator.normal(0, 0.1, len(size))
                iou = np.clip(difficulty + gain + luck, 0, 1)
                counts = np.stack([(iou * size).astype(int), size, PIXELS - size, PIXELS - (iou * size).astype(int)], 1)
                classes = np.repeat(np.arange(N_CLASSES), PER_CLASS)
                names = tuple(f"{fold}.{c}" for c in range(N_CLASSES))
                packed = pack_scores(EpisodeScores(classes, counts, names, f"list {fold}"))
                rows.append({"variant": name, "condition": "1-shot", "fold": fold, "seed": run, "scores": packed})
    return study, rows


def test_p_is_that_of_the_t_test_on_the_means_of_the_folds():
    differences = np.random.default_rng(0).normal(0.4, 1.0, (4, 3))
    expected = stats.ttest_1samp(differences.mean(axis=1), 0).pvalue
    assert fold_p(differences.ravel(), np.repeat(range(4), 3)) == pytest.approx(expected, abs=1e-12)
    # By hand: folds of mean 1 and 3, so t is 2 with one degree of freedom, where it is a Cauchy distribution.
    assert fold_p([0, 2, 3], [0, 0, 1]) == pytest.approx(1 - 2 / np.pi * np.arctan(2), abs=1e-12)
    assert fold_p([0.3, 0.4], [2, 2]) == fold_p([0.0, 0.0], [0, 1]) == fold_p([0.5, 0.5], [0, 1]) == 1.0  # no evidence


@pytest.mark.parametrize(("n_folds", "n_seeds"), [(4, 5), (2, 8)])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_folds_that_differ_around_nothing_are_no_evidence(n_folds, n_seeds, spread):
    """Folds drawn around 0: one p in twenty is below 0.05, however far the folds are apart beside their seeds."""
    generator = np.random.default_rng(n_folds)
    folds = np.repeat(np.arange(n_folds), n_seeds)
    leads = [generator.normal(0, spread, n_folds)[folds] + generator.normal(size=len(folds)) for _ in range(2000)]
    assert 0.035 < np.mean([fold_p(values, folds) < 0.05 for values in leads]) < 0.065


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06 (never below the one before), 0.5.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([float("nan"), 0.01]) == pytest.approx([float("nan"), 0.02], nan_ok=True)  # not known, but asked


def test_verdicts_are_those_of_the_interval():
    comparison = Comparison("c", "b", "a")
    words = [
        Judged(comparison, "1-shot", 0.0, Interval(*ends), 0, 1, 1.0).verdict
        for ends in ((0.01, 0.02), (-0.02, -0.01), (-0.01, 0.02), (0.0, 0.02))
    ]
    assert words == ["better", "worse", NO_DIFFERENCE, NO_DIFFERENCE]
    assert NO_DIFFERENCE == "no measurable difference"


def test_a_true_lead_is_found():
    study, rows = simulated_study(0.03, seed=1)
    with pytest.raises(
        ValueError, match=r"^1 runs come twice, first \('a', .*\); give the rows of one study on one da"
    ):
        judge(study, [*rows, rows[0]])
    (judged,) = judge(study, rows)
    assert judged.verdict == "better" and judged.wins >= 18 and judged.pairs == 20 and judged.p_corrected < 0.05
    means = {name: np.mean([unpack_scores(r["scores"]).miou for r in rows if r["variant"] == name]) for name in "ab"}
    assert judged.difference == pytest.approx(means["b"] - means["a"], abs=1e-12)


def test_p_values_are_corrected_over_all_questions_of_the_study():
    study, rows = simulated_study(0.03, seed=2, seeds=(1, 2))
    questions = (*study.comparisons, Comparison("a or b", "a", "b"), Comparison("again", "b", "a"))
    study = replace(study, comparisons=questions)
    judged = judge(study, rows)
    assert judged[0].p < 0.1 and [entry.p_corrected for entry in judged] == holm([entry.p for entry in judged])
    assert judged[0].p_corrected == pytest.approx(min(1, 3 * judged[0].p)) != judged[0].p


def test_nothing_is_found_where_there_is_nothing():
    """At a level of 95 %, 20 repeats find something once on average; three times or more is rare."""
    verdicts = [judge(*simulated_study(0.0, seed=100 + repeat), n_resamples=500)[0].verdict for repeat in range(20)]
    assert verdicts.count(NO_DIFFERENCE) >= 18


def test_a_single_episode_of_a_class_shows_nothing():
    study, rows = simulated_study(0.03, seed=1)
    for row in rows:
        scores = unpack_scores(row["scores"])
        row["scores"] = pack_scores(EpisodeScores(scores.class_index[:1], scores.counts[:1], scores.class_names))
    (judged,) = judge(study, rows)
    assert judged.interval == (-1, 1) and judged.verdict == NO_DIFFERENCE


def test_the_same_rows_differ_by_nothing():
    study, rows = simulated_study(0.0, seed=3)
    same = [{**row, "scores": rows[number - number % 2]["scores"]} for number, row in enumerate(rows)]
    (judged,) = judge(study, same)
    assert (judged.difference, judged.wins, judged.p, judged.verdict) == (0.0, 0, 1.0, NO_DIFFERENCE)


def test_an_incomplete_pair_is_refused():
    study, rows = simulated_study(0.0, seed=3)
    with pytest.raises(ValueError, match="'b' has 19 runs under '1-shot' and 'a' 20; both need the same"):
        judge(study, rows[:-1])
