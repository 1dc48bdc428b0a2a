# ruff: noqa: NPY002 - the repositories draw with NumPy's old global numbers, so the re-enactments must too
"""Ways of drawing: against plain re-enactments of the repositories' loops, worked on masks and names, not on counts."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_fss_trees import FSS_SPLITS, write_fss
from torch.utils.data import DataLoader, Dataset

from dpnet_lite.published.fss import Fss1000
from dpnet_lite.published.protocols.drawing import draw_for
from dpnet_lite.published.protocols.specs import PROTOCOLS, PerBenchmark
from dpnet_lite.published.registry import MIN_PIXELS

CLASSES = (1, 2, 3)  # values 2, 3 and 4 in the masks; class 0 is of another fold


@pytest.fixture
def masks() -> dict[str, np.ndarray]:
    """Ten masks whose names are not in the order of their places; objects above, at and below 2,048 pixels."""
    names = ["n7", "n2", "n9", "n0", "n5", "n3", "n8", "n1", "n6", "n4"]
    pixels = [  # of the values 1 to 4
        (3000, 2500, 0, 0),
        (0, 2048, 2047, 0),
        (0, 2500, 2500, 0),
        (0, 0, 3000, 100),
        (0, 0, 2048, 3000),
        (500, 10, 0, 2600),
        (0, 2100, 2100, 2100),
        (4000, 900, 0, 0),
        (0, 0, 0, 2049),
        (0, 4000, 0, 1),
    ]
    masks = {}
    for name, counts in zip(names, pixels, strict=True):
        flat = np.zeros(100 * 100, np.uint8)
        flat[: sum(counts)], flat[-50:] = np.repeat([1, 2, 3, 4], counts), 255
        masks[name] = flat.reshape(100, 100)
    return masks


class Counted:
    """The data set that the package draws from."""

    name, fingerprint, class_names = "made up", "abc", ("ant", "bee", "cat", "dog")

    def __init__(self, masks: dict[str, np.ndarray]) -> None:
        self.ids = tuple(masks)
        self.class_pixels = np.array([[(mask == value).sum() for value in (1, 2, 3, 4)] for mask in masks.values()])
        self.class_areas = (self.class_pixels / 10_000).astype(np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def names_of(self, episodes) -> list[tuple[int, str, list[str]]]:
        return [(e.class_index + 1, self.ids[e.query], [self.ids[i] for i in e.support]) for e in episodes]


@pytest.fixture
def dataset(masks) -> Counted:
    return Counted(masks)


def draw(name: str, dataset, **arguments):
    """`draw_for` with the processes and figures that a test wants; the protocol's own where it wants none."""
    protocol = PROTOCOLS[name]
    if "workers" in arguments:
        workers = arguments.pop("workers")
        protocol = replace(protocol, workers=PerBenchmark(workers, workers, workers))
    return draw_for(protocol, dataset, CLASSES, **{"fold": 0, "n_shot": 1, **arguments})


def values_in(mask: np.ndarray) -> list[int]:
    return [value for value in np.unique(mask).tolist() if value - 1 in CLASSES]


class PfenetItems(Dataset):
    """PFENet's items, by names: the query is the item's, the rest is drawn with Python's random numbers."""

    def __init__(self, masks: dict[str, np.ndarray], n_shot: int) -> None:
        self.masks, self.n_shot = masks, n_shot
        self.of_class = {
            index + 1: [name for name, mask in masks.items() if (mask == index + 1).sum() >= 2048] for index in CLASSES
        }
        self.queries = [name for name in masks if any(name in names for names in self.of_class.values())]

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, item: int) -> tuple[int, str, list[str]]:
        query = self.queries[item]
        present = values_in(self.masks[query])
        value = present[random.randint(1, len(present)) - 1]
        candidates, chosen = self.of_class[value], []
        for _ in range(self.n_shot):
            place, name = random.randint(1, len(candidates)) - 1, query
            while name == query or place in chosen:
                place = random.randint(1, len(candidates)) - 1
                name = candidates[place]
            chosen.append(place)
        return value, query, [candidates[place] for place in chosen]


class SspItems(Dataset):
    """SSP's items, by names."""

    def __init__(self, masks: dict[str, np.ndarray], n_shot: int, count: int) -> None:
        self.masks, self.n_shot, self.count = masks, n_shot, count
        self.names = [n for n, mask in masks.items() if any((mask == v).sum() >= 2048 for v in values_in(mask))]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> tuple[int, str, list[str]]:
        query = random.choice(self.names)
        value = random.choice(sorted(values_in(self.masks[query])))
        support: list[str] = []
        while len(support) < self.n_shot:
            with_class = {name for name in self.names if value in values_in(self.masks[name])}
            name = random.choice(sorted(with_class - {query} - set(support)))
            if (self.masks[name] == value).sum() >= 2048:
                support.append(name)
        return value, query, support


def run_through(items: Dataset, count: int, seed: int, workers: int) -> list[tuple[int, str, list[str]]]:
    """Seed everything as the repositories do, then pass over a loader until there are `count` items."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    drawn: list[tuple[int, str, list[str]]] = []
    while len(drawn) < count:
        loader = DataLoader(items, batch_size=None, shuffle=False, num_workers=workers, collate_fn=tuple)
        for item in loader:
            if len(drawn) == count:
                break
            drawn.append(item)
    return drawn


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("name", ["pfenet", "ssp"])
@pytest.mark.parametrize(("workers", "n_shot", "count"), [(0, 1, 60), (0, 2, 25), (3, 2, 40)])
def test_loops_in_loaders(masks, dataset, name: str, workers: int, n_shot: int, count: int) -> None:
    items = PfenetItems(masks, n_shot) if name == "pfenet" else SspItems(masks, n_shot, count)
    expected = run_through(items, count, 321, workers)
    for own in ("pfenet", "bam") if name == "pfenet" else ("ssp",):
        episodes = draw(own, dataset, n_shot=n_shot, count=count, seed=321, workers=workers)
        assert dataset.names_of(episodes) == expected


def until_not(query: str, names: list[str], n_shot: int) -> list[str]:
    """HSNet's support: NumPy's global numbers, until there are enough that are not the query."""
    support: list[str] = []
    while len(support) < n_shot:
        name = str(np.random.choice(names, 1, replace=False)[0])
        support += [] if name == query else [name]
    return support


def test_hsnet_with_its_own_pairs(dataset) -> None:
    pairs = [(3, 2), (0, 1), (2, 1), (4, 2), (9, 1), (5, 3), (8, 3)]
    np.random.seed(0)
    expected = []
    for item in range(30):
        query, value = dataset.ids[pairs[item % 7][0]], pairs[item % 7][1] + 1
        names = [dataset.ids[image] for image, index in pairs if index + 1 == value]
        expected.append((value, query, until_not(query, names, 3)))
    episodes = draw("hsnet", dataset, n_shot=3, count=30, pairs=pairs)
    assert dataset.names_of(episodes) == expected
    assert any(len(set(support)) < 3 for _, _, support in expected)  # an image can be support twice
    with pytest.raises(ValueError, match=r"^pairs hold ant, no class of the fold; give those of the fold$"):
        draw("hsnet", dataset, pairs=[*pairs, (7, 0)])


def test_hsnet_without_pairs_takes_every_pixel_that_counts(masks, dataset) -> None:
    listed = [(value, name) for name, mask in masks.items() for value in values_in(mask)]
    drawn = dataset.names_of(draw("hsnet", dataset, count=17))
    assert [(value, query) for value, query, _ in drawn] == listed[:17]


def test_hsnet_on_coco(masks, dataset) -> None:
    np.random.seed(5)
    expected = []
    for _ in range(40):
        value = int(np.random.choice([2, 3, 4], 1, replace=False)[0])
        names = [name for name, mask in masks.items() if (mask == value).any()]
        query = str(np.random.choice(names, 1, replace=False)[0])
        expected.append((value, query, until_not(query, names, 2)))
    episodes = draw("hsnet", dataset, n_shot=2, count=40, seed=5, benchmark="coco20i")
    assert dataset.names_of(episodes) == expected


@pytest.mark.parametrize("n_shot", [1, 5])
def test_hsnet_on_fss(tmp_path: Path, n_shot: int) -> None:
    write_fss(tmp_path, empty=True)  # names alone: files of 0 bytes, so a mask that is read would be an error
    names = sorted(FSS_SPLITS["test"])
    files = [path for name in names for path in sorted(map(str, (tmp_path / name).iterdir())) if path.endswith(".jpg")]
    np.random.seed(0)
    expected = []
    for item in range(90):
        query = files[item % len(files)]
        numbered = [str(Path(query).parent / f"{number}.jpg") for number in range(1, 11)]
        expected.append((query, until_not(query, numbered, n_shot)))
    dataset = Fss1000(tmp_path, "test")
    place = {str(tmp_path / f"{own}.jpg"): row for row, own in enumerate(dataset.ids)}
    drawn = draw_for(PROTOCOLS["hsnet"], dataset, range(4), fold=0, n_shot=n_shot, count=90, benchmark="fss1000")
    assert [(e.query, list(e.support)) for e in drawn] == [(place[q], [place[path] for path in s]) for q, s in expected]
    assert [e.class_index for e in drawn] == [names.index(Path(query).parent.name) for query, _ in expected]
    assert len(draw_for(PROTOCOLS["hsnet"], dataset, range(4), fold=0, n_shot=1, benchmark="fss1000")) == 2400


def test_hsnet_on_fss_needs_numbers(dataset) -> None:
    with pytest.raises(ValueError, match="image 'n7' has no number to draw by; name the images CLASS/NUMBER"):
        draw("hsnet", dataset, benchmark="fss1000")


@pytest.mark.parametrize("left", [[], ["n4"]])
def test_hsnet_on_coco_names_a_class_with_too_few_images(masks, left: list[str]) -> None:
    # Bees are in many images, dogs in none or in one: a class without images ends in NumPy's error, one image never.
    kept = Counted({name: mask for name, mask in masks.items() if not (mask == 4).any() or name in left})
    with pytest.raises(ValueError, match=f"class dog has {len(left)} images to draw from and needs 2"):
        draw("hsnet", kept, benchmark="coco20i")


# Written down once; they change only if a way of drawing does.
HASHES = {
    "ours": "81c95441e0b26d1c",
    "hsnet": "16ee9b9866c2a156",
    "pfenet": "1fd83345a7f5bbc5",
    "bam": "d576a96ae40f9700",
    "ssp": "3df7c23595df7e07",
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_lists_of_every_protocol(dataset, name: str) -> None:
    protocol = PROTOCOLS[name]
    episodes = draw_for(protocol, dataset, CLASSES, fold=1, n_shot=2, count=50)
    assert len(episodes) == 50 and episodes.seed == protocol.seeds[0]
    assert {episode.class_index for episode in episodes} == set(CLASSES)
    for episode in episodes:
        support = list(episode.support)
        assert episode.query not in support and len(support) == 2
        assert dataset.class_pixels[episode.query, episode.class_index] > 0
        if name != "hsnet":
            assert (dataset.class_pixels[support, episode.class_index] >= MIN_PIXELS).all() and len(set(support)) == 2
    small = [dataset.class_pixels[episode.query, episode.class_index] < MIN_PIXELS for episode in episodes]
    assert any(small) == (name != "ours")  # the others choose any novel class that the query shows
    assert episodes.sha256[:16] == HASHES[name]
    longer = draw_for(protocol, dataset, CLASSES, fold=1, n_shot=2, count=60)
    assert longer.episodes[:50] == episodes.episodes
    other = draw_for(protocol, dataset, CLASSES, fold=1, n_shot=2, count=50, seed=77)
    assert other.episodes != episodes.episodes


@pytest.mark.parametrize(
    ("name", "benchmark", "count"), [("bam", "pascal5i", 1000), ("ssp", "coco20i", 4000), ("pfenet", "pascal5i", 5001)]
)
def test_numbers_of_the_protocol_are_the_defaults(dataset, name: str, benchmark: str, count: int) -> None:
    assert len(draw(name, dataset, benchmark=benchmark)) == count
    with pytest.raises(ValueError, match=f"protocol {name} has no fss1000"):
        draw(name, dataset, benchmark="fss1000")


@pytest.mark.parametrize("name", ["ours", "pfenet", "bam", "ssp"])
def test_least_pixels_of_the_support(dataset, name: str) -> None:
    other = replace(PROTOCOLS[name], min_pixels=PerBenchmark(900, 2049, 0))
    for benchmark, least in (("pascal5i", 900), ("coco20i", 2049), *([("fss1000", 1)] if name == "ours" else [])):
        episodes = draw_for(other, dataset, CLASSES, fold=0, n_shot=1, count=200, benchmark=benchmark)
        assert min(dataset.class_pixels[image, e.class_index] for e in episodes for image in e.support) == least
        if name == "ours":
            assert min(dataset.class_pixels[e.query, e.class_index] for e in episodes) == least


@pytest.mark.parametrize("name", PROTOCOLS)
def test_too_few_images_are_named_and_not_waited_for(masks, name: str) -> None:
    few = Counted({key: masks[key] for key in ("n7", "n5")})  # one image of each class
    with pytest.raises(ValueError, match=r"class (bee|cat|dog) has 1 images to draw from|no class has two images"):
        draw_for(PROTOCOLS[name], few, CLASSES, fold=0, n_shot=1, count=5)
    with pytest.raises(ValueError, match=r"no image of made up shows a class|no class has two images"):
        draw_for(PROTOCOLS[name], Counted({"n1": masks["n1"] * 0}), CLASSES, fold=0, n_shot=1, count=5)
