"""Cycle comparison module (CCM): which query pixels are reliable foreground, and their mean, P_q.

Stated by the paper: the module takes F_s and F_q, selects reliable foreground features of the query and makes the
pseudo-prototype P_q. Precedent (CyCTR): follow a support foreground pixel j to its nearest query pixel i(j) and from
there to the nearest support pixel r(i(j)); keep i(j) if the way ends in the mask. Everything else is our choice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.matching import CycleMatches, best_cosine, cycle_matches, directions
from dpnet_lite.model.prototypes import cosine_map, cosine_maps, masked_averages

FALLBACK_PIXELS = 12  # ours, after SSP, which takes the 12 of greatest foreground probability


class Selection(NamedTuple):
    """The reliable query pixels of one selection rule."""

    weights: Tensor  # float32 [B, N_q], at least 0: how much each query pixel counts in P_q
    fallback: Tensor  # bool [B]: nothing was selected, the pixels most similar to P stand in


def support_first(matches: CycleMatches, support_mask: Tensor) -> Tensor:
    """R = { i(j) : j and r(i(j)) lie inside the mask } as bool [B, N_q] [precedent: CyCTR]."""
    returns = _closed_cycles(matches, support_mask)
    reliable = torch.zeros(matches.backward_match.shape, dtype=torch.int64, device=returns.device)
    return reliable.scatter_add(1, matches.forward_match, returns.long()) > 0


def _closed_cycles(matches: CycleMatches, support_mask: Tensor) -> Tensor:
    """Which support foreground pixels end in the mask again, bool [B, N_s]."""
    landing = matches.backward_match.gather(1, matches.forward_match)  # r(i(j)), [B, N_s]
    return support_mask & support_mask.gather(1, landing)


def query_first(matches: CycleMatches, support_mask: Tensor) -> Tensor:
    """Query pixels whose nearest support pixel is foreground and closes its own cycle, bool [B, N_q] [ours].

    Every query pixel is asked, so the set is far larger than that of `support_first`, where many support pixels
    name the same query pixel.
    """
    return _closed_cycles(matches, support_mask).gather(1, matches.backward_match)


def top_pixels(similarity: Tensor, count: int) -> Tensor:
    """The `count` highest of each row of `similarity` [B, N_q] as bool, the first of equal ones; or all there are."""
    chosen = similarity.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return torch.zeros_like(similarity, dtype=torch.bool).scatter(1, chosen, True)


def with_fallback(weights: Tensor, similarity_to_P: Tensor) -> Selection:
    """Use the 12 pixels most similar to P where a row of `weights` [B, N_q] is all 0 [ours, after SSP]."""
    empty = weights.sum(dim=1) <= 0
    stand_in = top_pixels(similarity_to_P, FALLBACK_PIXELS)
    return Selection(torch.where(empty[:, None], stand_in, weights), empty)


def pixel_weights(
    config: ModelConfig,
    matches: CycleMatches,
    support_mask: Tensor,
    similarity_to_P: Tensor,
    truth: Tensor | None,
) -> Tensor:
    """How much each query pixel counts under `config.selection`, float32 [B, N_q], before any fallback.

    `truth`, float [B, N_q] in [0, 1], is the query's own mask and needed by "oracle" only.
    """
    if config.selection == "oracle":
        if truth is None:
            raise ValueError("selection is 'oracle', but no query_masks were given; pass the query's true masks")
        return truth
    if config.selection == "threshold":
        weights = (similarity_to_P >= config.selection_threshold).float()
    elif config.selection == "top_k":
        weights = top_pixels(similarity_to_P, config.selection_count).float()
    elif config.selection == "query_first":
        weights = query_first(matches, support_mask).float()
    else:
        assert config.selection == "support_first", config.selection
        weights = support_first(matches, support_mask).float()
    if config.weighted_pooling:
        # Relative to the best *selected* pixel: its weight is 1, so the weights cannot all vanish.
        selected = similarity_to_P.masked_fill(weights == 0, -1.0)
        best = selected.amax(dim=1, keepdim=True)
        weights = weights * ((selected - best) / config.selection_temperature).exp()
    return weights


@torch.no_grad()
def select_reliable(
    config: ModelConfig,
    support: Tensor,
    support_masks: Tensor,
    query: Tensor,
    prototype: Tensor,
    truth: Tensor | None = None,
    *,
    all_matches: bool = True,
) -> tuple[list[Selection], list[CycleMatches]]:
    """Run the matching and the selection rule, shot by shot: what each of the K support images selects, and why.

    Args:
        support: float [B, K, C, h, w].
        support_masks: float [B, K, h, w], share of foreground in [0, 1]; a pixel is in the mask from one half on.
        query: float [B, C, h, w].
        prototype: float [B, C], P.
        truth: float [B, h, w] in [0, 1], for the oracle.
        all_matches: match every pixel, for looking inside; see `cycle_matches`.
    """
    masks = membership(support_masks.flatten(2))  # [B, K, h, w] -> [B, K, N_s]
    pixels = directions(query)  # [B, N_q, C]
    flat_truth = None if truth is None else truth.flatten(1)
    everywhere = all_matches or config.selection == "query_first"
    selections, matches = [], []
    with torch.autocast(query.device.type, enabled=False):  # what is selected must not depend on mixed precision
        similarity = cosine_map(query.float(), prototype.float()).flatten(1)  # [B, h, w] -> [B, N_q]
        for shot, mask in zip(support.unbind(dim=1), masks.unbind(dim=1), strict=True):
            found = cycle_matches(directions(shot), pixels, mask, everywhere=everywhere)
            weights = pixel_weights(config, found, mask, similarity, flat_truth)
            selections.append(with_fallback(weights, similarity))
            matches.append(found)
        if config.consensus_rounds == 0 or config.selection == "oracle":
            return selections, matches
        weights = torch.stack([selection.weights for selection in selections], dim=1)  # [B, K, N_q]
        agreed = consensus(query.float(), weights, config.consensus_rounds, config.consensus_temperature)
    pairs = zip(agreed.unbind(dim=1), selections, strict=True)
    return [Selection(weights, selection.fallback) for weights, selection in pairs], matches


def consensus(query: Tensor, weights: Tensor, n_rounds: int, temperature: float) -> Tensor:
    """Let the selected pixels agree on one object: mean shift in the query's own features [ours].

    The pixels of a selection may lie on several objects, and their mean is then like none of them. Each round takes
    the weighted mean of the query feature and weighs every query pixel anew by exp(cosine with it / temperature), so
    the mean moves to where the selection is densest. That the query's object resembles itself more than the
    support is SSP's observation [precedent].

    Args:
        query: float [B, C, h, w].
        weights: float [B, K, N_q], at least 0, of K selections.

    Returns:
        float [B, K, N_q] in (0, 1], 1 at the pixel nearest the mean.
    """
    for _ in range(n_rounds):
        cosine = cosine_maps(query, masked_averages(query, weights.unflatten(2, query.shape[-2:]))).flatten(2)
        weights = ((cosine - cosine.amax(dim=2, keepdim=True)) / temperature).exp()
    return weights


def membership(shares: Tensor) -> Tensor:
    """Pixels that count as inside the mask: share of foreground at least one half, [..., N_s] -> bool [..., N_s].

    Where no pixel reaches one half but some foreground exists, the fullest pixels stand in (our choice).
    """
    fullest = shares.amax(dim=-1, keepdim=True)
    return (shares >= fullest.clamp(max=0.5)) & (shares > 0)


@torch.no_grad()
def nearest_foreground(support_features: Tensor, support_masks: Tensor, query_features: Tensor) -> Tensor:
    """A prior [ours, after PFENet's]: every query pixel's best cosine with a support foreground pixel.

    Args:
        support_features: float [B, K, D, h, w].
        support_masks: float [B, K, h, w] in [0, 1].
        query_features: float [B, D, h, w].

    Returns:
        float [B, h, w], scaled to [0, 1] per query.
    """
    mask = membership(support_masks.flatten(1))  # [B, K, h, w] -> [B, K * h * w]
    pixels = support_features.transpose(1, 2).flatten(2, 3)  # [B, K, D, h, w] -> [B, D, K * h, w]
    best = best_cosine(directions(query_features), directions(pixels), mask[:, None])[:, 0]
    low, high = best.amin(dim=1, keepdim=True), best.amax(dim=1, keepdim=True)
    return ((best - low) / (high - low + 1e-7)).unflatten(1, query_features.shape[-2:])  # [B, N_q] -> [B, h, w]
