"""Each check passes a right answer, refuses typical wrong ones with the reason, and an unwritten one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from answers import (
    accuracy,
    any_order,
    auc,
    average,
    bonferroni,
    class_mask,
    contributions,
    correlation,
    episode,
    first_support,
    folds,
    hidden,
    holm,
    interval,
    loss,
    mask,
    means,
    merged,
    miou,
    nan_where_empty,
    nearest,
    needed,
    normal,
    of_means,
    of_truth,
    own_hides_own,
    pair_loop,
    paired,
    places,
    pooled,
    quality,
    rate,
    reinforced,
    reliable,
    safe_average,
    shots,
    shuffled,
    sums,
    two_maps,
    without_largest,
    without_limit,
    without_order,
    zero_diagonal,
)
from scipy.stats import false_discovery_control
from torch.nn.functional import normalize as unit

from dpnet_lite.course.exercises import Wrong
from dpnet_lite.course.exercises.lesson_01 import check_episode, check_folds
from dpnet_lite.course.exercises.lesson_02 import check_masked_average, check_two_prototypes
from dpnet_lite.course.exercises.lesson_03 import check_cycle, check_quality
from dpnet_lite.course.exercises.lesson_04 import check_reinforced
from dpnet_lite.course.exercises.lesson_05 import check_maps, check_mask
from dpnet_lite.course.exercises.lesson_05b import check_shots
from dpnet_lite.course.exercises.lesson_06 import check_learning_rate, check_loss
from dpnet_lite.course.exercises.lesson_07 import check_interval, check_miou
from dpnet_lite.course.exercises.lesson_08 import check_auc, check_weight_places
from dpnet_lite.course.exercises.lesson_09 import check_class_cosines, check_nearest_accuracy
from dpnet_lite.course.exercises.lesson_10 import check_class_mask, check_merged
from dpnet_lite.course.exercises.lesson_11 import check_holm, check_paired
from dpnet_lite.course.exercises.lesson_12 import check_contributions, check_hidden_share
from dpnet_lite.course.exercises.lesson_13 import check_episodes_needed
from dpnet_lite.datasets.folds import base_classes, novel_classes

RIGHT = {
    check_folds: folds,
    check_episode: episode,
    check_masked_average: safe_average,
    check_two_prototypes: nearest,
    check_cycle: reliable,
    check_quality: quality,
    check_reinforced: reinforced,
    check_maps: two_maps,
    check_mask: mask,
    check_shots: shots,
    check_loss: loss,
    check_learning_rate: rate,
    check_miou: miou,
    check_interval: interval,
    check_weight_places: places,
    check_auc: auc,
    check_class_cosines: pair_loop,
    check_nearest_accuracy: accuracy,
    check_class_mask: class_mask,
    check_merged: merged,
    check_paired: paired,
    check_holm: holm,
    check_hidden_share: hidden,
    check_contributions: contributions,
    check_episodes_needed: needed,
}
# Answers of another kind that are right, too: lists, arrays and tensors in place of tuples and floats.
ALSO_RIGHT = [
    (check_quality, lambda s, t: list(quality(s, t))),
    (check_quality, lambda s, t: torch.tensor(quality(s, t))),
    (check_interval, lambda v, g: np.array(interval(v, g))),
    (check_miou, lambda c, k: torch.tensor(miou(c, k), dtype=torch.float64)),
    (check_reinforced, lambda *a: list(reinforced(*a))),
    (check_episode, lambda h, k, g: list(episode(h, k, g))),
    (check_nearest_accuracy, lambda *a: torch.tensor(accuracy(*a))),
    (check_paired, lambda v, c: [float(x) for x in paired(v, c)]),
    (check_holm, lambda p: np.array(holm(p))),
    (check_contributions, lambda d, k, n: contributions(d, k, n).tolist()),
]


def unwritten(*arguments):
    raise NotImplementedError


@pytest.mark.parametrize(("check", "answer"), [*RIGHT.items(), *ALSO_RIGHT])
def test_a_right_answer_passes(check, answer):
    assert check(answer).startswith("Exercise ") and " is right: " in check(answer)


@pytest.mark.parametrize("check", RIGHT)
def test_an_unwritten_answer_and_one_that_fails_are_named(check):
    with pytest.raises(Wrong, match="unwritten is not written yet"):
        check(unwritten)
    with pytest.raises(Wrong, match="raised ZeroDivisionError"):
        check(lambda *arguments: 1 // 0)


def test_a_verdict_names_the_exercise():
    wanted = "Exercise 9.2 is right: the tables of 3 random cases agree with the package."
    assert check_class_cosines(pair_loop) == wanted == repr(check_class_cosines(pair_loop))


@pytest.mark.parametrize(
    ("check", "answer", "reason"),
    [
        (check_folds, lambda n, fold, m: novel_classes(n, fold, m, "blocked"), "blocks, as in PASCAL"),
        (check_folds, lambda n, fold, m: range(fold + 1, n, m), "these begin one later"),
        (check_folds, lambda n, fold, m: range(fold + 1, n + 1, m), "classes count from 0, not from 1"),
        (check_folds, lambda n, fold, m: range(fold, n - 1, m), "the last class is missing"),
        (check_folds, lambda n, fold, m: [c for c in range(n) if c // m == fold], "not class // n_folds"),
        (check_folds, base_classes, "these are the base classes"),
        (check_folds, lambda n, fold, m: range((fold + 1) % m, n, m), "fold 0 should hold [0, 4, 8, 12]"),
        (check_folds, lambda n, fold, m: range(n), "novel in more than one fold"),
        (check_episode, lambda h, k, g: (int(h[0]), h[1 : k + 1].tolist()), "all should be as likely"),
        (check_episode, lambda h, k, g: (int(g.choice(h)), g.permutation(h)[:k].tolist()), "in its own support"),
        (check_episode, lambda h, k, g: (int(h[0]), [int(h[1])] * k), "repeats an image"),
        (check_episode, lambda h, k, g: (int(h[0]), []), "support images, there are 0"),
        (check_episode, lambda h, k, g: (500, h[:k]), "does not show the class; draw it from holders"),
        (check_episode, lambda h, k, g: (0, h[:k]), "return the number that stands there"),
        (check_episode, lambda h, k, g: (int(h[0]), list(range(k))), "number that stands there"),
        (check_folds, lambda n, fold, m: range(fold, n, 4), "not 80 and 4"),
        (check_folds, lambda n, fold, m: range(fold, 80, 4), "not 80 and 4"),
        (check_cycle, lambda S, m: (S[0] > 2) | m[S[:, m.sum()].argmax()], "which axis is which"),
        (check_episode, lambda h, k, g: episode(h, k, np.random.default_rng(0)), "generator you are given"),
        (check_episode, lambda h, k, g: 3, "return a pair"),
        (check_episode, lambda h, k, g: episode(h, k, g)[::-1], "the query comes first"),
        (check_folds, lambda n, fold, m: None, "return a list of class numbers"),
        (check_masked_average, lambda f, m: average(f, (m > 0).float()), "let a cell that is half"),
        (check_masked_average, lambda f, m: average(f, m), "an empty mask must give zeros"),
        (
            check_cycle,
            lambda S, m: torch.tensor(
                [
                    i in {int(S[j].argmax()) for j in range(len(m)) if m[j] and S[:, S[j].argmax()].argmax() == j}
                    for i in range(S.shape[1])
                ]
            ),
            "anywhere in the mask will do",
        ),
        (
            check_reinforced,
            lambda p, q, a, b: (reinforced(p, q, a, b)[0], q + b * correlation(p, q).softmax(1) @ p),
            "transpose A",
        ),
        (
            check_reinforced,
            lambda p, q, a, b: (
                reinforced(p, q, a, b)[0],
                q + b * correlation(p, q).T.softmax(1) @ reinforced(p, q, a, b)[0],
            ),
            "not from P+",
        ),
        (check_mask, lambda x, s: mask(torch.stack([0 * x[0], x[1]]), s), "whether one logit is above 0"),
        (check_mask, lambda x, s: mask(x.softmax(dim=0), s), "not the probabilities"),
        (check_masked_average, lambda f, m: f.mean(dim=(1, 2)), "mean over all cells"),
        (check_masked_average, lambda f, m: (f * m).mean(dim=(1, 2)), "not by the number of cells"),
        (check_masked_average, lambda f, m: (f * m).sum(dim=(1, 2)), "divide it by the sum"),
        (check_masked_average, lambda f, m: f[:, m > 0.5].mean(dim=1), "let a cell that is half foreground count half"),
        (check_masked_average, lambda f, m: f[0], "returns the shape [4, 6]; it should be [5]"),
        (check_masked_average, lambda f, m: None, "end it with a return"),
        (check_masked_average, lambda f, m: average(f, m) * 1.01, "the numbers differ"),
        (check_two_prototypes, lambda q, f, b: nearest(q, b, f), "exchanged"),
        (check_two_prototypes, lambda q, f, b: torch.einsum("chw,c->hw", q, f - b) > 0, "plain products"),
        (check_two_prototypes, lambda q, f, b: nearest(q, f, b).float(), "return True and False"),
        (check_two_prototypes, lambda q, f, b: q[0] > q[1], "of 64 cells differ"),
        (check_cycle, lambda S, m: torch.isin(torch.arange(S.shape[1]), S.argmax(1)[m]), "check the way back"),
        (check_cycle, lambda S, m: m[S.argmax(dim=0)], "you start at the query"),
        (check_cycle, lambda S, m: torch.ones(S.shape[1]).bool(), "the set should be"),
        (check_cycle, lambda S, m: reliable(S, m | True) & m[S.argmax(0)], "start at those inside the mask only"),
        (check_episode, lambda h, k, g: episode(h, k, np.random.default_rng()), "not with one of your own"),
        (check_masked_average, lambda f, m: (f * m).sum((1, 2)) / ((m > 0).sum() + 1e-6), "cells the mask touches"),
        (check_two_prototypes, lambda q, f, b: torch.einsum("chw,c->hw", q, f - b) > (f @ f - b @ b) / 2, "distance"),
        (check_two_prototypes, lambda q, f, b: torch.cosine_similarity(q, f[:, None, None], 0) > 0.5, "a fixed number"),
        (check_two_prototypes, lambda q, f, b: nearest(unit(q), f, b), "over the channels, dim=0"),
        (check_reinforced, lambda p, q, a, b: (p + a * torch.outer(p, q).softmax(1) @ q, q), "square root of C"),
        (check_reinforced, lambda p, q, a, b: (p + a * correlation(p, q).softmax(0) @ q, q), "along a row"),
        (check_reinforced, lambda p, q, a, b: (p, q), "P+ differs"),
        (
            check_reinforced,
            lambda p, q, a, b: (reinforced(p, q, a, b)[0], q + b * correlation(p, q).T.softmax(0) @ p),
            "add up to 1: transpose",
        ),
        (check_reinforced, lambda p, q, a, b: (p + a * correlation(p, q) @ q, q), "the softmax is missing"),
        (check_reinforced, lambda p, q, a, b: reinforced(p, q, b, a), "yours are exchanged"),
        (check_reinforced, lambda p, q, a, b: (reinforced(p, q, a, b)[0] - p, q), "the prototype is missing"),
        (check_reinforced, lambda p, q, a, b: (p + a * correlation(p, q) @ p, q), "and with the softmax"),
        (check_reinforced, lambda p, q, a, b: (reinforced(p, q, a, b)[0], q), "P_q+ differs"),
        (check_reinforced, lambda p, q, a, b: p, "return a pair"),
        (check_reinforced, lambda p, q, a, b: (p + a * correlation(q, p).softmax(1) @ q, q), "that takes: transpose A"),
        (check_reinforced, lambda p, q, a, b: (p + a * (torch.outer(p, q) / len(p)).softmax(1) @ q, q), "not by C"),
        (check_reinforced, lambda p, q, a, b: (p + a * (e := correlation(p, q).exp()) @ q / e.sum(), q), "the table"),
        (check_maps, lambda q, p, b: two_maps(q, p, b) / 10, "factor 10"),
        (check_maps, lambda q, p, b: two_maps(q, p, b).flip(0), "are exchanged"),
        (check_maps, lambda q, p, b: torch.stack([two_maps(q, p, b)[0], two_maps(q, b, p)[1]]), "other way"),
        (check_maps, lambda q, p, b: two_maps(q, p, b)[:1].expand(2, -1, -1), "only the second"),
        (check_shots, lambda f, m, q, w: (pooled(f, m), shots(f, m, q, w)[1]), "counts large objects more"),
        (check_shots, lambda f, m, q, w: (3 * shots(f, m, q, w)[0], shots(f, m, q, w)[1]), "not their sum"),
        (check_shots, lambda f, m, q, w: (shots(f, m, q, w)[0], pooled(q[None], w.sum(0)[None])), "outvote"),
        (check_shots, lambda f, m, q, w: ((f * m[:, None]).mean((0, 2, 3)), shots(f, m, q, w)[1]), "number of cells"),
        (check_shots, lambda f, m, q, w: (shots(f, m, q, w)[0], 3 * shots(f, m, q, w)[1]), "shares add up to K"),
        (check_shots, lambda f, m, q, w: (shots(f, m, q, w)[0], (q * w.mean(0)).sum((1, 2))), "do not add up to 1"),
        (check_shots, lambda f, m, q, w: (shots(f, m, q, w)[0], pooled(q[None], w.prod(0)[None])), "a product keeps"),
        (check_mask, lambda x, s: torch.nn.functional.interpolate(x[None], s)[0].argmax(0), "steps as large as a cell"),
        (check_mask, lambda x, s: 1 - mask(x, s), "exchanged"),
        (check_mask, lambda x, s: mask(torch.stack([x[0] >= x[1], x[1] > x[0]]).float(), s), "the decision, resized"),
        (check_mask, lambda x, s: torch.zeros(s), "pixels differ"),
        (check_loss, lambda x, y: loss(x, y) * (y != 255).float().mean(), "not by the number of all"),
        (check_loss, lambda x, y: loss(x, y * (y != 255)), "leave these pixels out"),
        (check_loss, lambda x, y: -loss(x, y), "the sign is wrong"),
        (check_loss, lambda x, y: loss(x, y) * (y != 255).sum(), "this is the sum"),
        (check_loss, lambda x, y: loss(x.flip(1), y), "the labels are exchanged"),
        (check_loss, lambda x, y: -of_truth(x, y).mean(), "take the logarithm of each pixel's first"),
        (check_loss, lambda x, y: (1 - of_truth(x, y)).mean(), "minus its logarithm"),
        (check_loss, lambda x, y: -of_truth(x, y).log2().mean(), "to the base 2"),
        (check_loss, lambda x, y: 1.7 * loss(x, y), "the loss should be"),
        (check_loss, lambda x, y: float(loss(x, y)), "return a tensor"),
        (check_loss, lambda x, y: -torch.where(y == 1, x[:, 1], x[:, 0])[y != 255].mean(), "these are logits"),
        (check_loss, lambda x, y: -torch.where(y == 1, *x.log_softmax(0).unbind(1)[::-1])[y != 255].mean(), "dim=0"),
        (check_learning_rate, lambda s, n, p, w: p * (s + 1) / w if s < w else rate(s, n, p, w), "the warm-up too"),
        (check_learning_rate, lambda s, n, p, w: rate(s + 1, n, p, 0) * min(1, (s + 1) / max(1, w)), "not t + 1"),
        (check_learning_rate, lambda s, n, p, w: rate(s, n, p, w) * (s / (s + 1) if s < w else 1), "not stand still"),
        (check_learning_rate, lambda s, n, p, w: rate(s, n, p * (s + 1) / w if s >= w > 0 else p, w), "it stops at 1"),
        (check_learning_rate, lambda s, n, p, w: rate(s - w, n - w, p, 0) if s >= w else rate(s, n, p, w), "the end"),
        (check_learning_rate, lambda s, n, p, w: 0.7 * p, "the rate should be"),
        (check_learning_rate, lambda s, n, p, w: rate(s, n - 1, p, w), "not by T - 1"),
        (check_learning_rate, lambda s, n, p, w: min(1, (s + 1) / max(1, w)) * rate(s / np.pi, n, p, 0), "pi is"),
        (check_learning_rate, lambda s, n, p, w: None, "end it with a return"),
        (check_miou, lambda c, k: float((c[:, 0] / c[:, 1]).mean()), "the mean over episodes"),
        (check_miou, lambda c, k: np.mean([(c[k == x, 0] / c[k == x, 1]).mean() for x in set(k)]), "a class: add up"),
        (check_miou, lambda c, k: float(c[:, 0].sum() / c[:, 1].sum()), "of all classes"),
        (check_miou, lambda c, k: float(c.sum(0)[[0, 2]] @ (1 / c.sum(0)[[1, 3]]) / 2), "this is FB-IoU"),
        (check_miou, lambda c, k: miou(c[:, 2:], k), "this is the background's"),
        (check_miou, lambda c, k: np.mean([miou(c[k == x], k[k == x]) for x in k]), "by its number of episodes"),
        (check_miou, lambda c, k: len(set(k.tolist())) * miou(c, k), "the sum over the classes"),
        (check_miou, lambda c, k: np.mean([2 / (1 + 1 / miou(c[k == x], k[k == x])) for x in set(k.tolist())]), "Dice"),
        (check_miou, lambda c, k: 0.5, "mIoU should be"),
        (check_miou, lambda c, k: [0.5], "return one number"),
        (check_interval, lambda v, g: (v.mean(), v.mean()), "draw with replacement"),
        (check_interval, lambda v, g: tuple(np.quantile(v, [0.025, 0.975])), "the spread of the values"),
        (check_interval, lambda v, g: tuple(np.add(interval(v, g), 0.05)), "should be about"),
        (check_interval, lambda v, g: 3, "return a pair"),
        (check_interval, lambda v, g: np.percentile(g.choice(v, (999, len(v))).mean(1), [0.025, 0.975]), "quantile of"),
        (check_interval, lambda v, g: interval(v, g, 0.05), "the middle 90 %"),
        (check_interval, lambda v, g: np.quantile(g.choice(v, (1000, 10)).mean(1), [0.025, 0.975]), "not 10"),
        (check_weight_places, lambda w, c: c.mean(dim=(1, 2)), "the weights must count"),
        (check_weight_places, lambda w, c: places(w, c) * w.sum(), "divide by the sum of the weights"),
        (check_weight_places, lambda w, c: (w * c).mean(dim=(1, 2)), "not by h w"),
        (check_weight_places, lambda w, c: (w * c).sum(dim=(1, 2)) / c.sum(dim=(1, 2)), "not by the area"),
        (check_weight_places, lambda w, c: places(w, (c == c.amax(dim=0)).float()), "gives to both"),
        (check_weight_places, lambda w, c: places((w > 1).float(), c), "the shares should be"),
        (check_weight_places, lambda w, c: places(w, c).sum(), "returns the shape []"),
        (check_auc, lambda x, y: (x[y][:, None] > x[~y]).mean(), "half, not nothing"),
        (check_auc, lambda x, y: (x[y][:, None] >= x[~y]).mean(), "half, not whole"),
        (check_auc, lambda x, y: auc(-x, y), "exchanged"),
        (check_auc, lambda x, y: x[y].mean() - x[~y].mean(), "compare pairs"),
        (check_auc, lambda x, y: (x[y][:, None] > x).mean(), "two clean ones do not count"),
        (check_auc, lambda x, y: 0.5, "the share should be"),
        (check_auc, lambda x, y: [0.5, 1], "return one number"),
        (check_auc, lambda x, y: None, "returns nothing"),
        (check_episode, first_support, "hardly ever in the support"),
        (check_episode, lambda h, k, g: (None, [1]), "end it with a return"),
        (check_folds, lambda n, f, m: [[c] for c in range(f, n, m)], "return one number"),
        (check_masked_average, lambda f, m: (f * m).sum(dim=(1, 2)) / m.sum().clamp_min(1), "object smaller than one"),
        (check_cycle, lambda S, m: reliable(S, m).float(), "return True and False"),
        (check_cycle, lambda S, m: m.argmax(), "raised NotImplementedError"),  # torch has it so for bool
        (check_mask, lambda x, s: 1.9 * mask(x, s), "0 and 1 and nothing else"),
        (check_quality, lambda s, t: (None, None), "end it with a return"),
        (check_quality, lambda s, t: (s, t), "return one number"),
        (check_miou, lambda c, k: float("nan"), "division of 0 by 0"),
        (check_learning_rate, lambda s, n, p, w: "fast", "returns a str; return one number"),
        (check_interval, lambda v, g: interval(v, g)[::-1], "the ends are exchanged"),
        (check_interval, lambda v, g: normal(v), "two generators give the same ends"),
        (check_interval, lambda v, g: interval(v, g, 0.035), "take the quantiles 0.025 and 0.975"),
        (check_interval, lambda v, g: interval(v, g, 0.02), "take the quantiles 0.025 and 0.975"),
        (check_interval, lambda v, g: 0.5, "return a pair"),
        (check_class_mask, lambda d, n: d, "255 is still there"),
        (check_class_mask, lambda d, n: np.where(d == 255, n, 0).astype(np.uint8), "2 pixels above 0"),
        (check_class_mask, lambda d, n: np.full_like(d, n), "background must stay 0"),
        (check_class_mask, lambda d, n: np.where(d > 0, n, 0), "the array is int64"),
        (check_class_mask, lambda d, n: np.where(d > 0, n + 1, 0).astype(np.uint8), "do not have the value"),
        (check_class_mask, lambda d, n: d[0], "shape is [3]"),
        (check_class_mask, lambda d, n: None, "not a NoneType"),
        (check_merged, lambda m: sum(k * x for k, x in enumerate(m, 1)).astype(np.uint8), "set 255, add no numbers"),
        (check_merged, lambda m: np.max([k * x for k, x in enumerate(m, 1)], 0).astype(np.uint8), "last must not win"),
        (check_merged, lambda m: np.zeros((6, 8), np.uint8), "and should be 1, not 0"),
        (check_quality, lambda s, t: quality(t, s), "exchanged"),
        (check_quality, lambda s, t: (quality(s, t)[0], 1.0), "recall should be"),
        (check_quality, lambda s, t: (0.0, quality(s, t)[1]), "precision should be"),
        (check_quality, lambda s, t: ((s & t).sum(), (s & t).sum()), "precision: that is a number of cells"),
        (check_quality, lambda s, t: ((s & t).float().mean(), 1), "precision: you divide by all cells"),
        (check_quality, lambda s, t: (quality(s, t)[0], (s == t).float().mean()), "recall: that is the share of cells"),
        (check_quality, lambda s, t: ((s & t).sum() / (s | t).sum(), 1), "precision: that is the IoU"),
        (check_class_cosines, lambda p, y: pair_loop(p, y, unit=False), "length 1 first"),
        (check_class_cosines, lambda p, y: pair_loop(p, y, own=True), "each point with itself"),
        (check_class_cosines, lambda p, y: pair_loop(p - p.mean(1, keepdim=True), y), "this is Pearson's correlation"),
        (check_class_cosines, of_means, "cosines of the class means"),
        (check_class_cosines, shuffled, "off the diagonal is wrong"),
        (check_class_cosines, zero_diagonal, "the diagonal is wrong"),
        (check_class_cosines, lambda p, y: None, "returns nothing"),
        (check_class_cosines, lambda p, y: torch.zeros(2, 3), "shape"),
        (check_nearest_accuracy, lambda *a: accuracy(*a, own=True), "own episode helps"),
        (check_nearest_accuracy, lambda *a: accuracy(*a, euclidean=True), "smallest distance; take the largest cosine"),
        (check_nearest_accuracy, lambda p, r, y: accuracy(p, torch.nn.functional.normalize(r), y), "length 1 before"),
        (check_nearest_accuracy, lambda p, r, y: accuracy(p, p, y), "of the references, not of the points"),
        (check_nearest_accuracy, lambda *a: 100 * accuracy(*a), "not per cent"),
        (check_nearest_accuracy, lambda *a: 0.123, "the share should be"),
        (check_nearest_accuracy, lambda *a: None, "returns nothing"),
        (check_nearest_accuracy, lambda *a: "all", "returns a str; return one number"),
        (check_paired, lambda v, c: paired(v, c, **{"scale": -1.0}), "sign is turned round"),
        (check_paired, lambda v, c: paired(v, c, **{"scale": 100.0}), "in percent"),
        (check_paired, lambda v, c: paired(v, c, **{"mean": np.median}), "the median"),
        (check_paired, lambda v, c: paired(v, c, **{"wins": np.greater_equal}), "a draw is counted"),
        (check_paired, lambda v, c: paired(v, c, **{"count": np.mean}), "share of wins"),
        (check_paired, lambda v, c: paired(v, c, **{"wins": np.less}), "the variant is ahead in"),
        (check_paired, lambda v, c: paired(v, c, **{"scale": 2.0}), "the mean difference is"),
        (check_holm, bonferroni, "Bonferroni"),
        (check_holm, without_order, "these are sorted"),
        (check_holm, without_largest, "take the largest so far"),
        (check_holm, without_limit, "is no probability"),
        (check_holm, false_discovery_control, "Benjamini"),
        (check_holm, lambda p: p, "for [0.04, 0.01, 0.03, 0.9] it is"),
        (check_holm, lambda p: p[:-1], "give 4 numbers for 4 p-values"),
        (check_holm, lambda p: None, "returns nothing"),
        (check_holm, lambda p: ["a"] * len(p), "as a list of numbers"),
        (check_hidden_share, lambda m, o: 1 - hidden(m, o), "share that is seen"),
        (check_hidden_share, any_order, "lies behind and hides nothing"),
        (check_hidden_share, lambda m, o: hidden(m[::-1], o[::-1]), "turned round"),
        (check_hidden_share, own_hides_own, "an own object before another own one hides nothing"),
        (check_hidden_share, lambda m, o: 0.123, "the share should be"),
        (check_hidden_share, lambda m, o: None, "returns nothing"),
        (check_contributions, means, "means of the strata"),
        (check_contributions, sums, "these are sums"),
        (check_contributions, lambda d, k, n: sums(d, k, n) / n, "by the number of strata"),
        (check_contributions, lambda d, k, n: contributions(d, k, n)[::-1], "the contributions should be"),
        (check_contributions, lambda d, k, n: contributions(d, k, n).mean(), "the shape is"),
        (check_contributions, lambda d, k, n: None, "returns nothing"),
        (check_episodes_needed, lambda w, n, t: math.ceil(n * w / t), "four times as many"),
        (check_episodes_needed, lambda w, n, t: n * w / t, "square the ratio"),
        (check_episodes_needed, lambda w, n, t: needed(t, n, w), "upside down"),
        (check_episodes_needed, lambda w, n, t: needed(w, n, t) - (needed(w, n, t) > n * (w / t) ** 2), "round up"),
        (check_episodes_needed, lambda w, n, t: n * (w / t) ** 2, "a whole number"),
        (check_contributions, nan_where_empty, "a stratum without episodes adds 0"),
        (check_masked_average, lambda f, m: np.zeros(5), "returns a ndarray; return a tensor"),
    ],
)
def test_a_wrong_answer_is_told_why(check, answer, reason):
    with pytest.raises(Wrong) as told:
        check(answer)
    assert reason in str(told.value)


def test_the_learner_sees_the_reason_and_no_traceback():
    assert Wrong("look at the mask")._render_traceback_() == ["Not yet: look at the mask"]
