"""Episode lists: deterministic, even, leak-free and hashed, on random area tables without images."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.base import DatasetDefaults, KnownAreas, Sample
from dpnet_lite.episodes import Episode, EpisodeList, StepParts, class_pools, draw_episodes, usable_classes


class AreaTable(DatasetDefaults):
    """A data set that consists of its class areas; episodes need no pixels."""

    name = "table"

    def __init__(self, class_areas: np.ndarray, fingerprint: str = "f00d") -> None:
        self.class_areas = class_areas.astype(np.float32)
        self.class_names = tuple(f"class {index}" for index in range(class_areas.shape[1]))
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.class_areas)

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError("drawing episodes must not read images")


def make_table(n_images: int = 60, n_classes: int = 6, seed: int = 0) -> AreaTable:
    rng = np.random.default_rng(seed)
    shares = rng.uniform(0, 0.3, (n_images, n_classes))
    return AreaTable(shares * (rng.random((n_images, n_classes)) < 0.4))


DRAW = {"fold": 0, "n_shot": 1, "count": 40, "seed": 0}


def test_sha256_is_that_of_the_canonical_json() -> None:
    drawn = draw_episodes(make_table(), range(6), **DRAW)
    content = {"seed": 0, "n_shot": 1, "fold": 0, "dataset": "f00d"}
    content["episodes"] = [
        {"query": entry.query, "support": list(entry.support), "class_index": entry.class_index} for entry in drawn
    ]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert drawn.to_json() == canonical
    assert drawn.sha256 == hashlib.sha256(canonical.encode()).hexdigest()
    assert drawn.to_json() == canonical  # also after the hash was asked for
    of_numpy = {name: np.int64(value) for name, value in DRAW.items()}
    assert draw_episodes(make_table(), range(6), **of_numpy).to_json() == canonical
    hand_written = EpisodeList("f", 1, 1, 2, (Episode(3, 4, (5,)),))
    assert hand_written.to_json() == (
        '{"dataset":"f","episodes":[{"class_index":3,"query":4,"support":[5]}],"fold":1,"n_shot":1,"seed":2}'
    )


def test_frozen_lists_stay_as_they_were() -> None:
    """Lists of published scores are drawn anew by whoever repeats them: another hash is another experiment."""
    shares = np.fromfunction(lambda image, c: (7 * image + 3 * c) % 11 / 22, (40, 5))
    lists = [draw_episodes(AreaTable(shares), range(5), **{**DRAW, "n_shot": n, "fold": 2}) for n in (1, 5)]
    assert [entry.sha256[:16] for entry in lists] == ["72584eb7f366ae3c", "a75eeb98dcf86588"]


@pytest.mark.parametrize("n_images", [5001, 5002])
def test_large_pools_are_sampled_and_small_ones_shuffled(n_images: int) -> None:
    generator = np.random.default_rng([0, 0, 3])
    generator.permutation(1)  # of the one class
    query = generator.choice(np.arange(n_images))
    rest = np.delete(np.arange(n_images), query)  # 5,000 are still shuffled
    support = generator.permutation(rest)[:3] if n_images == 5001 else generator.choice(rest, 3, replace=False)
    (drawn,) = draw_episodes(AreaTable(np.ones((n_images, 1))), [0], fold=0, n_shot=3, count=1, seed=0, min_area=1)
    assert drawn == Episode(0, int(query), tuple(support.tolist()))


def test_each_setting_changes_list_and_hash() -> None:
    original = draw_episodes(make_table(), range(6), **DRAW)
    changed = [
        draw_episodes(make_table(), range(6), **{**DRAW, key: value})
        for key, value in (("fold", 1), ("n_shot", 5), ("seed", 1), ("count", 41))
    ]
    other_content = AreaTable(make_table().class_areas, fingerprint="beef")
    changed.append(draw_episodes(other_content, range(6), **DRAW))
    assert len({entry.sha256 for entry in (original, *changed)}) == 6
    for entry in changed[:3]:
        assert [item.query for item in entry] != [item.query for item in original]
    assert changed[3].episodes[:40] == original.episodes  # a longer list begins with the shorter one


@settings(deadline=None, max_examples=60)
@given(
    n_images=st.integers(2, 25),
    n_classes=st.integers(1, 7),
    n_shot=st.integers(1, 8),
    count=st.integers(1, 60),
    min_area=st.sampled_from([0.0, 0.02, 0.15]),
    seed=st.integers(0, 2**32),
)
def test_every_list_is_sound(
    n_images: int, n_classes: int, n_shot: int, count: int, min_area: float, seed: int
) -> None:
    table = make_table(n_images, n_classes, seed)
    holders = {  # plain Python beside the vectorised pools
        c: [i for i in range(n_images) if table.class_areas[i, c] > 0 and table.class_areas[i, c] >= min_area]
        for c in range(n_classes)
    }
    usable = {c for c, images in holders.items() if len(images) >= 2}
    arguments = {"fold": 0, "n_shot": n_shot, "count": count, "seed": seed, "min_area": min_area, "repeats": True}
    if not usable:
        with pytest.raises(ValueError, match="no class has two images"):
            draw_episodes(table, range(n_classes), **arguments)
        return
    drawn = draw_episodes(table, range(n_classes), **arguments)
    assert len(drawn) == count
    turns = Counter(entry.class_index for entry in drawn)
    assert set(turns) <= usable
    assert all(count // len(usable) <= turns[c] <= -(-count // len(usable)) for c in usable)
    for entry in drawn:
        pool = holders[entry.class_index]
        assert entry.query in pool and set(entry.support) <= set(pool) - {entry.query}
        assert len(entry.support) == n_shot
        assert len(set(entry.support)) == min(n_shot, len(pool) - 1)  # repeats only where it must
        uses = Counter(entry.support).values()
        assert max(uses) <= -(-n_shot // (len(pool) - 1))
    assert EpisodeList.from_json(drawn.to_json()) == drawn
    plain = arguments | {"repeats": False}
    if n_shot < min(len(holders[c]) for c in usable):
        assert draw_episodes(table, range(n_classes), **plain) == drawn
    else:  # case 11
        with pytest.raises(ValueError, match=rf"{n_shot} shots need {n_shot + 1} images .*--repeat-support"):
            draw_episodes(table, range(n_classes), **plain)


def test_queries_and_supports_are_uniform_over_the_pool() -> None:
    areas = np.zeros((12, 1))
    areas[:10] = 0.5
    drawn = draw_episodes(AreaTable(areas), [0], **{**DRAW, "count": 5000})
    for counts in (Counter(entry.query for entry in drawn), Counter(entry.support[0] for entry in drawn)):
        assert set(counts) == set(range(10))
        assert all(abs(count - 500) < 5 * 21.3 for count in counts.values())  # sqrt(5000 x 0.1 x 0.9) = 21.2


def test_classes_come_in_shuffled_rounds() -> None:
    order = [entry.class_index for entry in draw_episodes(make_table(), range(6), **{**DRAW, "count": 60})]
    rounds = [tuple(order[start : start + 6]) for start in range(0, 60, 6)]
    assert all(sorted(entry) == list(range(6)) for entry in rounds) and len(set(rounds)) > 5


def test_area_limit_is_inclusive_and_nothing_is_drawn_where_the_class_is_absent() -> None:
    areas = np.array([[0.02], [0.019], [0.0], [0.5]])
    assert class_pools(AreaTable(areas), [0], min_area=0.02)[0].tolist() == [0, 3]
    assert class_pools(AreaTable(areas), (c for c in [0]), min_area=0.0)[0].tolist() == [0, 1, 3]
    with pytest.raises(TypeError, match=r"^dataset is a list; give a data set, such as the \.dataset of features$"):
        class_pools([areas], [0])
    assert [usable_classes(AreaTable(areas), [0], min_area=share) for share in (0.02, 0.5)] == [[0], []]


def test_unusable_classes_are_left_out_and_named_when_none_is_left() -> None:
    table = AreaTable(np.array([[0.5, 0.5], [0.5, 0.0], [0.5, 0.0]]))
    assert {entry.class_index for entry in draw_episodes(table, [0, 1], **DRAW)} == {0}
    with pytest.raises(ValueError, match=r"show it on 2 % of their pixels or more \(images: class 1 1\); add images"):
        draw_episodes(table, [1], **DRAW)
    with pytest.raises(ValueError, match=r"images that show it \(images: class 1 1, class 0 1\); add"):
        draw_episodes(AreaTable(np.eye(2)), [1, 0], **DRAW, min_area=0)


@pytest.mark.parametrize(
    ("classes", "changes", "message"),
    [
        ([], {}, "name at least one"),
        ([1, 1], {}, r"\[1, 1\]; name at least one, and each once"),
        ([6], {}, "class index 6 does not exist; table has 0 to 5"),
        ([-1], {}, "class index -1"),
        ([0], {"n_shot": 0}, "n_shot is 0"),
        ([0], {"count": 0}, "count is 0"),
        ([0], {"seed": -1}, "seed is -1"),
        ([0], {"fold": -1}, "fold is -1"),
        ([0], {"n_shot": 1.9}, r"n_shot is 1\.9; it must be a whole number and at least 1"),
        ([0.0], {}, r"class index 0\.0 does not exist"),
        (["cat"], {}, "class index cat does not exist"),
        ([0], {"min_area": 2.0}, "min_area is 2.0"),
        ([0], {"n_shot": 60}, r"^60 shots need 61 images of a class, but class 0 has \d+ to draw from; give fewer"),
    ],
)
def test_bad_arguments_are_named(classes: list[int], changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_episodes(make_table(), classes, **{**DRAW, **changes})


def test_classes_may_be_an_array() -> None:
    assert draw_episodes(make_table(), np.arange(6), **DRAW) == draw_episodes(make_table(), range(6), **DRAW)
    with pytest.raises(ValueError, match=r"^classes are \[\]; name at least one"):
        draw_episodes(make_table(), np.array([], dtype=int), **DRAW)


def test_from_json_refuses_what_is_no_sound_list() -> None:
    drawn = draw_episodes(make_table(), range(6), **DRAW)
    leaky = replace(drawn, episodes=(Episode(0, 3, (3,)),))
    with pytest.raises(ValueError, match="episode 0 has query 3"):
        EpisodeList.from_json(leaky.to_json())
    whole, first = json.loads(drawn.to_json()), {"class_index": 0, "query": 1, "support": [2]}
    changes = [{name: value} for name in ("fold", "n_shot", "seed") for value in ("1", 1.0, None, -1, 2**63)]
    changes += [{"dataset": 3}, {"episodes": 3}, {"episodes": [3]}]
    changes += [
        {"episodes": [first | {n: v}]} for n, v in (("query", 1.5), ("query", "1"), ("support", 2), ("support", [-2]))
    ]
    texts = ["[]", "{}", drawn.to_json()[:-5], drawn.to_json().replace("fold", "fald")]
    for text in (*texts, *(json.dumps(whole | change) for change in changes)):
        with pytest.raises(ValueError, match="no episode list"):
            EpisodeList.from_json(text)
    with pytest.raises(ValueError, match=r"\('a fingerprint that is no text, or a number that is none from 0 up'\)\);"):
        EpisodeList.from_json(json.dumps(whole | {"fold": -1}))


def test_min_pixels_asks_for_counts_at_the_images_own_size() -> None:
    counts = np.array([[40], [41], [500], [0]], dtype=np.int32)

    class Counted(AreaTable):
        class_pixels = counts

    table = Counted(counts / 1000)
    assert class_pools(table, [0], min_area=0.0, min_pixels=41)[0].tolist() == [1, 2]
    assert class_pools(KnownAreas(table, table.class_areas), [0], min_area=0.0, min_pixels=41)[0].tolist() == [1, 2]
    assert class_pools(table, [0], min_area=0.3, min_pixels=41)[0].tolist() == [2]
    assert set(draw_episodes(table, [0], **DRAW, min_pixels=41).images.flat) == {1, 2}
    for dataset, value, does in ((AreaTable(counts), 5, "does not"), (table, -1, "does")):
        with pytest.raises(
            ValueError, match=rf"min_pixels is {value}; .*only for data sets that count .* table {does}$"
        ):
            class_pools(dataset, [0], min_pixels=value)


@given(n_processes=st.integers(1, 4), accumulate=st.integers(1, 3), size=st.integers(1, 3), first=st.integers(0, 3))
def test_a_division_into_parts_leaves_no_episode_out(n_processes: int, accumulate: int, size: int, first: int) -> None:
    batch = n_processes * accumulate * size
    config = TrainingConfig(steps=6, batch_size=batch, accumulate=accumulate)
    episodes = [Episode(number % 5, number, (number + 1, number + 2)) for number in range(6 * batch)]
    shares = [
        StepParts(episodes, config, range(first, 6), rank=rank, n_processes=n_processes) for rank in range(n_processes)
    ]
    taken = [part for share in shares for part in share]
    numbers = [episode.query for part in taken for episode in part.episodes]
    assert sorted(numbers) == list(range(first * batch, 6 * batch))
    assert len({len(share) for share in shares}) == 1  # no process waits for another one's extra part
    for part in taken:
        start = part.step * batch + part.first
        assert list(part.episodes) == episodes[start : start + size] and part.n_step == batch


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is 6, but 2 processes take it in 2 parts each; give a multiple of 4$"):
        StepParts([], TrainingConfig(batch_size=6, accumulate=2), range(1), n_processes=2)
    parts = StepParts([Episode(0, 0, (1,))], TrainingConfig(batch_size=1), range(1))
    assert parts[0].episodes == (Episode(0, 0, (1,)),)  # of the first process
    assert {array.dtype for array in (parts.class_index, parts.query, parts.support)} == {np.dtype("int32")}  # small
    with pytest.raises(IndexError, match="part 1 is not in 0 to 0"):
        parts[1]
