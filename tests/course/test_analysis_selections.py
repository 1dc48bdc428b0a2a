"""Selections of many episodes: against loops over pixels and cells, and cases worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dpnet_lite.course.analysis.selections import (
    OUTCOMES,
    PLACES,
    SIGNS,
    all_cycles,
    land_cover,
    shown_in_cells,
    survey,
    trust_signs,
    weight_places,
)
from dpnet_lite.course.explorers.cycle import follow_cycle
from dpnet_lite.course.opened_episode import selection_quality


@pytest.fixture(scope="module")
def episodes(far):
    return list(far.episodes(count=12))


def test_the_cover_is_that_of_a_loop_over_pixels(far, episodes):
    seen = torch.zeros(len(PLACES))
    for episode in episodes:
        texture, outline = far.class_names[episode.class_index].split()
        labels = far.world[episode.query].labels.numpy()
        wanted = np.zeros((len(PLACES), 24, 24))
        for (y, x), label in np.ndenumerate(labels):
            place = "background"
            if label:
                other_texture, other_outline = far.class_names[label - 1].split()
                names = {(1, 1): "the object", (1, 0): "same outline", (0, 1): "same texture", (0, 0): "other object"}
                place = names[other_outline == outline, other_texture == texture]
            wanted[PLACES.index(place), y // 4, x // 4] += 1 / 16
        cover = land_cover(far, episode)
        assert np.allclose(cover.numpy(), wanted, atol=1e-6)
        seen += cover.sum(dim=(1, 2))
    assert (seen > 0).all()  # these episodes show every place


def test_a_cell_shows_the_label_of_most_of_its_pixels(far, episodes):
    labels = far.world[episodes[0].query].labels
    shown = shown_in_cells(labels, (24, 24)).tolist()
    for cell, own in enumerate(shown):
        row, column = divmod(cell, 24)
        counts = np.bincount(labels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten())
        assert counts[own] == counts.max()
    assert len(set(shown)) == len(labels.unique()) > 2


def test_shares_of_the_weight_by_hand():
    cover = torch.tensor([[[1.0, 0.5]], [[0.0, 0.5]]])
    assert weight_places(torch.tensor([[3.0, 2.0]]), cover).tolist() == pytest.approx([0.8, 0.2])


def test_cycles_are_those_that_the_explorer_follows(far):
    for episode in list(far.episodes(n_shot=2, count=3)):
        opened = far.open(episode)
        cycles = all_cycles(opened)
        wanted = []
        for shot in (0, 1):
            for cell in range(24 * 24):
                one = follow_cycle(opened, divmod(cell, 24), shot)
                if one.starts_inside:
                    name = ("kept, " if one.accepted else "rejected, was ") + (
                        "right" if opened.truth_shares[one.match] >= 0.5 else "wrong"
                    )
                    wanted.append((shot, one.start, one.match, one.landing, name))
        given = [
            (shot, divmod(start, 24), divmod(match, 24), divmod(landing, 24), OUTCOMES[outcome])
            for shot, start, match, landing, outcome in zip(
                *(
                    column.tolist()
                    for column in (cycles.shots, cycles.starts, cycles.matches, cycles.landings, cycles.outcomes)
                ),
                strict=True,
            )
        ]
        assert given == wanted and len(given) > 10


def test_matches_of_other_shots_are_refused(far):
    opened = far.open(far.episodes(n_shot=2, count=1)[0])
    one_set = replace(opened, trace=opened.trace._replace(matches=opened.trace.matches[:1]))
    for follow in (all_cycles, lambda episode: follow_cycle(episode, (0, 0))):
        with pytest.raises(ValueError, match="matches of 1 sets of pixels; ask for one per shot"):
            follow(one_set)


def test_signs_are_those_of_plain_loops(far, episodes):
    for episode in episodes[:4]:
        opened = far.open(episode)
        signs = trust_signs(opened)
        query, weights = opened.trace.query[0].double().numpy(), opened.trace.reliable[0].double().numpy()
        P = opened.trace.prototype[0].double().numpy()
        cells = [(row, column) for row in range(24) for column in range(24)]
        cosine = {c: query[:, c[0], c[1]] @ P / np.linalg.norm(query[:, c[0], c[1]]) / np.linalg.norm(P) for c in cells}
        total = sum(weights[c] for c in cells)
        P_q = sum(weights[c] * query[:, c[0], c[1]] for c in cells) / total
        middle = np.array(sum(weights[c] * np.array(c) for c in cells)) / total
        spread = np.sqrt(sum(weights[c] * ((np.array(c) - middle) ** 2).sum() for c in cells) / total)
        ends = [OUTCOMES[number] for number in all_cycles(opened).outcomes]
        wanted = {
            "ways that come back": np.mean([end.startswith("kept") for end in ends]),
            "cosine of P and P_q": P @ P_q / np.linalg.norm(P) / np.linalg.norm(P_q),
            "selected cells like P": sum(weights[c] * cosine[c] for c in cells) / total,
            "best cell above the mean": max(cosine.values()) - np.mean(list(cosine.values())),
            "selected cells close together": -spread,
        }
        assert tuple(signs) == SIGNS
        assert signs == pytest.approx(wanted, abs=1e-4)


def test_a_survey_holds_what_each_view_shows(far, episodes):
    found = survey(far, episodes)
    for number, episode in enumerate(episodes):
        opened, perfect = far.open(episode), far.open(episode, selection="oracle")
        quality = selection_quality(opened.trace.reliable[0], opened.truth_shares)
        assert (found.precisions[number], found.recalls[number]) == pytest.approx(quality)
        assert (found.ious[number], found.oracle_ious[number]) == pytest.approx((opened.iou, perfect.iou))
        cover = land_cover(far, episode)
        assert found.areas[number] == pytest.approx(cover.mean(dim=(1, 2)).numpy(), abs=1e-6)
        assert found.places[number] == pytest.approx(weight_places(opened.trace.reliable[0], cover).numpy(), abs=1e-6)
        outcomes = all_cycles(opened).outcomes.numpy()
        assert found.outcomes[number] == pytest.approx([(outcomes == k).mean() for k in range(4)])
        assert {name: values[number] for name, values in found.signs.items()} == pytest.approx(trust_signs(opened))
    assert found.labels.tolist() == [episode.class_index for episode in episodes]
    # The object's share of the weight is the precision, by two ways of counting.
    assert np.allclose(found.places[:, 0], found.precisions, atol=1e-6)
    assert not np.allclose(found.ious, found.oracle_ious)


def test_switches_of_a_survey_change_the_selection_and_not_the_oracle(far, episodes):
    plain = survey(far, episodes[:4], weighted_pooling=False, consensus_rounds=0)
    default = survey(far, episodes[:4])
    assert not np.allclose(plain.places, default.places) and np.allclose(plain.oracle_ious, default.oracle_ious)
    with pytest.raises(ValueError, match="there are 0 episodes"):
        survey(far, [])


def test_the_oracle_takes_any_weights(far, episodes):
    truth = far.open(episodes[0], selection="oracle")
    again = far.open(episodes[0], selection="oracle", oracle_weights=truth.truth_shares)
    assert torch.allclose(again.trace.pseudo_prototype, truth.trace.pseudo_prototype, atol=1e-5)
    one = torch.zeros(24, 24)
    one[3, 5] = 2.0
    picked = far.open(episodes[0], selection="oracle", oracle_weights=one)
    assert torch.allclose(picked.trace.pseudo_prototype[0], picked.trace.query[0, :, 3, 5], atol=1e-4)
    wide = replace(picked, query_image=np.zeros((98, 98, 3), np.uint8))  # no multiple of the 24 cells
    assert wide.selected.shape == (98, 98) and np.unravel_index(wide.selected.argmax(), (98, 98)) == (13, 21)
    with pytest.raises(
        ValueError, match=r"^oracle_weights are for selection='oracle', but it is 'support_first'; give"
    ):
        far.open(episodes[0], oracle_weights=one)
