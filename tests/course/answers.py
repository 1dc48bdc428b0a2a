"""Answers to the exercises: right ones, and wrong ones that take more than a line."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from dpnet_lite.ablation.comparisons import holm


def folds(n, fold, n_folds):
    return range(fold, n, n_folds)


def episode(holders, n_shot, generator):
    query, *support = generator.permutation(holders)[: n_shot + 1].tolist()
    return query, support


def average(features, mask):
    return (features * mask).sum(dim=(1, 2)) / mask.sum()


def safe_average(features, mask):
    return (features * mask).sum(dim=(1, 2)) / (mask.sum() + 1e-6)


def nearest(query, foreground, background):
    def cosine(prototype):
        return torch.nn.functional.cosine_similarity(query, prototype[:, None, None], dim=0)

    return cosine(foreground) > cosine(background)


def reliable(S, mask):
    kept = [int(S[j].argmax()) for j in range(len(mask)) if mask[j] and mask[S[:, S[j].argmax()].argmax()]]
    return torch.tensor([i in kept for i in range(S.shape[1])])


def quality(selected, truth):
    hits = (selected & truth).sum()
    return float(hits / selected.sum()), float(hits / truth.sum())


def correlation(P, P_q):
    return torch.outer(P, P_q) / len(P) ** 0.5


def reinforced(P, P_q, g1, g2):
    A = correlation(P, P_q)
    return P + g1 * A.softmax(dim=1) @ P_q, P_q + g2 * A.T.softmax(dim=1) @ P


def two_maps(query, prototype, background):
    cosines = [
        torch.einsum("chw,c->hw", query, vector) / query.norm(dim=0) / vector.norm()
        for vector in (prototype, background)
    ]
    return 10 * torch.stack([cosines[0] - cosines[0].mean(), cosines[0] - cosines[1]])


def pooled(features, weights):
    return torch.einsum("kchw,khw->c", features, weights) / weights.sum()


def shots(F_s, masks, F_q, weights):
    P = sum(pooled(f[None], m[None]) for f, m in zip(F_s, masks, strict=True)) / len(masks)
    return P, sum(pooled(F_q[None], w[None]) for w in weights) / len(weights)


def mask(logits, size):
    resized = torch.nn.functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    return (resized[1] > resized[0]).long()


def loss(logits, labels):
    of_truth = torch.log_softmax(logits, dim=1).gather(1, (labels == 1).long()[:, None])[:, 0]
    return -of_truth[labels != 255].mean()


def of_truth(logits, labels):
    probabilities = torch.where(labels == 1, logits.softmax(dim=1)[:, 1], logits.softmax(dim=1)[:, 0])
    return probabilities[labels != 255]


def rate(step, steps, peak, warmup):
    return peak * min(1, (step + 1) / max(1, warmup)) * (1 + np.cos(np.pi * step / steps)) / 2


def miou(counts, classes):
    return np.mean([counts[classes == c, 0].sum() / counts[classes == c, 1].sum() for c in set(classes.tolist())])


def interval(values, generator, tail=0.025):
    means = generator.choice(values, (1000, len(values))).mean(axis=1)
    return tuple(np.quantile(means, [tail, 1 - tail]))


def normal(values):
    half = 1.96 * values.std() / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def first_support(holders, n_shot, generator):
    query = generator.choice(holders)
    return query, holders[holders != query][:n_shot].tolist()


def class_mask(drawn, number):
    return (drawn > 0).astype(np.uint8) * np.uint8(number)


def merged(masks):
    result = np.zeros(masks[0].shape, dtype=np.uint8)
    for number, mask in enumerate(masks, start=1):
        result = np.where(mask, np.where(result > 0, 255, number), result)
    return result.astype(np.uint8)


def places(weights, cover):
    return torch.stack([(weights * share).sum() for share in cover]) / weights.sum()


def auc(sign, clean):
    return roc_auc_score(clean, sign)


def pair_loop(points, labels, *, unit=True, own=False):
    """Mean over pairs in plain loops."""
    if unit:
        points = points / points.norm(dim=1, keepdim=True)
    n = int(labels.max()) + 1
    table = torch.zeros(n, n)
    for a in range(n):
        for b in range(n):
            pairs = [
                points[i] @ points[j]
                for i in range(len(points))
                for j in range(len(points))
                if (own or i != j) and labels[i] == a and labels[j] == b
            ]
            table[a, b] = torch.stack(pairs).mean()
    return table


def of_means(points, labels):
    means = torch.stack([points[labels == k].mean(dim=0) for k in labels.unique()])
    means = means / means.norm(dim=1, keepdim=True)
    return means @ means.T


def shuffled(points, labels):
    return pair_loop(points, labels).flip(0)


def zero_diagonal(points, labels):
    return pair_loop(points, labels).fill_diagonal_(0)


def accuracy(points, references, labels, *, own=False, euclidean=False):
    hits = 0
    for i in range(len(points)):
        rest = torch.arange(len(points)) != (-1 if own else i)
        means = torch.stack([references[rest & (labels == k)].mean(dim=0) for k in labels.unique()])
        if euclidean:
            score = -(means - points[i]).norm(dim=1)
        else:
            score = torch.nn.functional.cosine_similarity(means, points[i][None])
        hits += int(score.argmax() == labels[i])
    return hits / len(points)


def paired(variant, control, *, scale=1.0, mean=np.mean, wins=np.greater, count=np.sum):
    difference = scale * (variant - control)
    return mean(difference), count(wins(variant, control))


def bonferroni(p):
    return [min(1.0, len(p) * x) for x in p]


def without_order(p):
    return sorted(holm(p))


def without_largest(p):
    order = np.argsort(p)
    result = np.empty(len(p))
    result[order] = np.minimum(1, (len(p) - np.arange(len(p))) * np.array(p)[order])
    return result


def without_limit(p):
    result, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(np.argsort(p)):
        largest = result[index] = max(largest, (len(p) - rank) * p[index])
    return result


def hidden(masks, own):
    top = np.full(masks.shape[1:], -1)
    for number, mask in enumerate(masks):
        top[mask] = number
    whole = masks[own].any(axis=0)
    return (whole & ~np.isin(top, np.flatnonzero(own))).sum() / whole.sum()


def any_order(masks, own):
    whole = masks[own].any(axis=0)
    return (whole & masks[~own].any(axis=0)).sum() / whole.sum()


def own_hides_own(masks, own):
    seen = sum((masks[k] & ~masks[k + 1 :].any(axis=0)).sum() for k in np.flatnonzero(own))
    return 1 - seen / masks[own].sum()


def contributions(differences, numbers, n_strata):
    return np.bincount(numbers, weights=differences, minlength=n_strata) / len(differences)


def means(differences, numbers, n_strata):
    return np.array([differences[numbers == k].mean() if (numbers == k).any() else 0 for k in range(n_strata)])


def sums(differences, numbers, n_strata):
    return contributions(differences, numbers, n_strata) * len(differences)


def needed(half_width, n, target):
    """Counted up one by one from below."""
    count = 1
    while half_width * (n / count) ** 0.5 > target + 1e-12:
        count += 1
    return count


def nan_where_empty(differences, numbers, n_strata):
    sizes = np.array([(numbers == k).sum() for k in range(n_strata)])
    return np.where(sizes > 0, contributions(differences, numbers, n_strata), np.nan)
