"""The five protocols on made-up predictions worked out by hand, and what a perfect prediction scores under each."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import write_protocols

from dpnet_lite.episodes import Episode, EpisodeList
from dpnet_lite.published.protocols.counting import (
    compared,
    nearest_labels,
    padded_size,
    perfect_logits,
    protocol_counts,
)
from dpnet_lite.published.protocols.scoring import evaluate_under, protocol_score
from dpnet_lite.published.protocols.specs import PROTOCOLS, PerBenchmark
from dpnet_lite.published.registry import PUBLISHED


def sized(name: str, side: int):
    """A protocol with a square small enough to count by hand."""
    return replace(PROTOCOLS[name], size=PerBenchmark(side, side, side))


# One prediction for all: logits [2, 1, 2], so no row differs from another. The margin (foreground minus background) is
# 3 on the left and -1 on the right; resized, it is linear between them and changes sign at 3/4 of the way.
MARGIN = torch.tensor([[3.0, -1.0]])
LOGITS = torch.stack([torch.zeros_like(MARGIN), MARGIN])

# Three episodes, labels of 6 rows and 8 columns. A fold of three classes, of which class 2 has no episode.
CLASSES = np.array([0, 1, 0])


def made_up_labels() -> list[torch.Tensor]:
    first, second, third = (torch.zeros(6, 8, dtype=torch.uint8) for _ in range(3))
    first[:, :4], first[:, 7] = 1, 255  # class 0: columns 0-3; column 7 is ignored
    second[3:] = 1  # class 1: rows 3-5
    third[:2, :2], third[4] = 1, 255  # class 0: a corner of 2 x 2; row 4 is ignored
    return [first, second, third]


# ours (edges of pixels aligned): column u lies at (u + 1/2) / 4 - 1/2 < 3/4, that is u < 4.5: columns 0-4, 30 pixels.
#   1: 24 of them right; union 30; 42 valid pixels.   2: 3 x 5 = 15; union 30 + 24 - 15 = 39; 48 valid.
#   3: row 4 ignored, 25 predicted; the 4 are found; union 25; 40 valid.
OURS = [[24, 30, 12, 18], [15, 39, 9, 33], [4, 25, 15, 36]]
# ssp (corners aligned): u / 7 < 3/4, u < 5.25: columns 0-5, 36 pixels.
#   1: 24; 36; 42 valid.   2: 18; 36 + 24 - 18 = 42; 48 valid.   3: 4; 30; 40 valid.
SSP = [[24, 36, 6, 18], [18, 42, 6, 30], [4, 30, 10, 36]]
# hsnet, square of 4 (corners aligned): j / 3 < 3/4: columns 0-2, 12 pixels. Labels by the nearest: rows 0, 1, 3, 4 and
# columns 0, 2, 4, 6 are left, so column 7 of the first is gone.
#   1: label 4 x 2 = 8; 8; 12; 16 valid.   2: label 2 x 4 = 8; 2 x 3 = 6; 12 + 8 - 6 = 14; 16 valid.
#   3: label 2 x 1; last row ignored, 9 predicted; 2; 9; 12 valid.
HSNET = [[8, 12, 4, 8], [6, 14, 2, 10], [2, 9, 3, 10]]
# pfenet, square of 17: 17 / 8 * 6 = 12.75 rows, rounded to 8; 17 columns, rounded to 16. Inside, column c lies at
# (c + 1/2) / 8 - 1/2 < 3/4, c < 9.5. Back to 8 x 8, corners aligned: row or column k reads 16 k / 7 = 0, 2.3, 4.6, 6.9,
# 9.1, 11.4, ...: columns 0-4 are foreground, rows 4 and 5 read padding: 4 x 5 = 20 pixels.
#   1: 16; 24 + 20 - 16 = 28; 42 valid.   2: 5; 24 + 20 - 5 = 39; 48 valid.   3: 4; 20; 40 valid.
PFENET = [[16, 28, 14, 26], [5, 39, 9, 43], [4, 20, 20, 36]]
# bam, square of 25: 25 / 8 * 6 = 18.75 rows, rounded to 16; columns 24; foreground c < 14.5. k reads 24 k / 7 = 0, 3.4,
# 6.9, 10.3, 13.7, 17.1: columns 0-4; only row 5 reads padding: 5 x 5 = 25 pixels.
#   1: 20; 24 + 25 - 20 = 29; 42 valid.   2: 10; 24 + 25 - 10 = 39; 48 valid.   3: row 4 ignored, 20; 4; 20; 40 valid.
BAM = [[20, 29, 13, 22], [10, 39, 9, 38], [4, 20, 20, 36]]

HAND_WORKED = {"ours": (None, OURS), "hsnet": (4, HSNET), "pfenet": (17, PFENET), "bam": (25, BAM), "ssp": (None, SSP)}

# Class 0 has episodes 1 and 3, class 1 has episode 2. hsnet, pfenet and bam divide by the three classes of the fold.
HAND_SCORES = {
    "ours": ((Fraction(28, 55) + Fraction(15, 39)) / 2, (Fraction(43, 94) + Fraction(36, 87)) / 2),
    "hsnet": ((Fraction(10, 21) + Fraction(6, 14)) / 3, (Fraction(16, 35) + Fraction(9, 28)) / 2),
    "pfenet": ((Fraction(20, 48) + Fraction(5, 39)) / 3, (Fraction(25, 87) + Fraction(43, 105)) / 2),
    "bam": ((Fraction(24, 49) + Fraction(10, 39)) / 3, (Fraction(34, 88) + Fraction(42, 96)) / 2),
    "ssp": ((Fraction(28, 66) + Fraction(18, 42)) / 2, None),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_counts_and_scores_worked_out_by_hand(name: str) -> None:
    side, expected = HAND_WORKED[name]
    protocol = PROTOCOLS[name] if side is None else sized(name, side)
    counts = [protocol_counts(protocol, LOGITS, labels).tolist() for labels in made_up_labels()]
    assert counts == expected
    miou, fb_iou = protocol_score(protocol, CLASSES, np.array(counts), classes=(0, 1, 2))
    expected_miou, expected_fb_iou = HAND_SCORES[name]
    assert miou == pytest.approx(float(expected_miou), abs=1e-7)  # HSNet adds in float32
    assert np.isnan(fb_iou) if expected_fb_iou is None else fb_iou == pytest.approx(float(expected_fb_iou), abs=1e-7)


def test_hsnet_counts_255_as_background_on_coco() -> None:
    # The last row of the third episode now counts: 12 predicted, 2 right, 16 pixels.
    third = made_up_labels()[2]
    assert protocol_counts(sized("hsnet", 4), LOGITS, third, benchmark="coco20i").tolist() == [2, 12, 4, 14]
    assert protocol_counts(PROTOCOLS["ours"], LOGITS, third, benchmark="coco20i").tolist() == OURS[2]


def test_sums_and_means_that_differ() -> None:
    # 2 ** 24 + 1 is no float32: HSNet loses the one wrong pixel of the second episode in the union.
    counts, classes = np.array([[2**24, 2**24, 0, 0], [0, 1, 5, 6]]), np.array([0, 0])
    assert protocol_score(PROTOCOLS["hsnet"], classes, counts)[0] == 1.0
    assert protocol_score(PROTOCOLS["ours"], classes, counts)[0] < 1.0
    counts = np.array([[3, 4, 5, 6], [0, 0, 9, 9]])  # class 1: nothing to find, nothing predicted
    scores = {name: protocol_score(PROTOCOLS[name], np.array([0, 1]), counts)[0] for name in PROTOCOLS}
    assert scores == pytest.approx({"ours": 0.75, "ssp": 0.75, "hsnet": 0.375, "pfenet": 0.375, "bam": 0.375})


def random_labels(height: int, width: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array([0, 0, 1, 1, 255], np.uint8), (4, 4))
    coarse[0, 0], coarse[3, 3] = 1, 0
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    return torch.from_numpy(coarse[rows][:, columns])


def perfect_iou(protocol, labels: torch.Tensor) -> float:
    counts = protocol_counts(protocol, perfect_logits(protocol, labels), labels)
    assert counts[0] > 0 and counts[2] > 0
    return min(counts[0] / counts[1], counts[2] / counts[3]).item()


@pytest.mark.parametrize("name", ["ours", "ssp", "hsnet"])  # HSNet compares at its own size
def test_a_perfect_prediction_is_exactly_one_at_any_size(name: str) -> None:
    for seed, (height, width) in enumerate([(4, 4), (5, 7), (33, 61), (97, 41), (101, 101), (375, 500), (500, 333)]):
        assert perfect_iou(PROTOCOLS[name], random_labels(height, width, seed)) == 1.0


def test_pfenet_distorts_images_that_do_not_fit() -> None:
    assert padded_size(375, 500, 473) == (352, 472)
    assert padded_size(359, 640, 641) == (352, 640)  # 359 * 641 / 640 is 359.56: rounded to 360, it would stay
    assert padded_size(640, 359, 641) == (640, 352)
    assert 0.8 < perfect_iou(PROTOCOLS["pfenet"], random_labels(375, 500, 3)) < 1.0
    square = random_labels(64, 64, 1)
    assert perfect_iou(sized("pfenet", 64), square) == 1.0
    assert perfect_iou(sized("pfenet", 65), square) < 1.0  # the repository's squares are 8 n + 1


def bilinear_corners(image: np.ndarray, size: int) -> np.ndarray:
    """Slow bilinear resizing of a square to a square, corners aligned."""
    result, old = np.zeros((size, size)), len(image)
    for i in range(size):
        for j in range(size):
            y, x = i * (old - 1) / (size - 1), j * (old - 1) / (size - 1)
            top, left = min(int(y), old - 2), min(int(x), old - 2)
            dy, dx = y - top, x - left
            corners = image[top : top + 2, left : left + 2]
            result[i, j] = np.array([1 - dy, dy]) @ corners @ np.array([1 - dx, dx])
    return result


@pytest.mark.parametrize(("height", "width"), [(20, 31), (31, 20), (29, 29)])
def test_pfenet_mapping_against_a_slow_loop(height: int, width: int) -> None:
    side, rng = 41, np.random.default_rng(height)
    inside_height, inside_width = padded_size(height, width, side)
    logits = rng.normal(size=(2, inside_height, inside_width))
    square = np.zeros((2, side, side))
    for i in range(side):
        for j in range(side):
            values = logits[:, min(i, inside_height - 1), min(j, inside_width - 1)]
            padded = i >= inside_height or j >= inside_width
            square[:, i, j] = (max(values), min(values)) if padded else values
    longer = max(height, width)
    background, foreground = (bilinear_corners(channel, longer) for channel in square)
    labels = random_labels(height, width, 0)
    prediction, target = compared(sized("pfenet", side), torch.from_numpy(logits), labels)
    assert prediction.tolist() == (foreground > background).astype(int).tolist()
    assert target.shape == (longer, longer) and torch.equal(target[:height, :width], labels)
    assert int((target == 255).sum()) == longer**2 - height * width + int((labels == 255).sum())


def test_ties_and_nearest_pixels() -> None:
    ones = torch.ones(2, 3, dtype=torch.uint8)
    assert protocol_counts(PROTOCOLS["ours"], torch.zeros(2, 2, 3), ones).tolist() == [0, 6, 0, 6]  # background
    labels = torch.tensor([1, 0, 1, 0, 0, 1], dtype=torch.uint8)[:, None].repeat(1, 6)
    assert nearest_labels(labels, (4, 6))[:, 0].tolist() == [1, 0, 0, 0]  # HSNet: row i takes floor(i * 6 / 4)
    perfect = perfect_logits(sized("pfenet", 9), labels)  # 9 pixels, rounded down to 8
    assert (perfect[1, :, 0] > 0).tolist() == [bool(labels[i * 6 // 8, 0]) for i in range(8)]  # OpenCV: floor, too


class Pictures:
    """Two images of a size each; their labels are read without the image."""

    name, fingerprint, class_names = "pictures", "abc", ("cat", "dog", "cow")

    def __len__(self) -> int:
        return 3

    def read_labels(self, index: int) -> torch.Tensor:
        labels = made_up_labels()[index]
        return torch.where(labels == 1, 40, labels).to(torch.uint8)  # the class's value in this data set

    def label_value(self, index: int, class_index: int) -> int:
        return 40 if class_index == CLASSES[index] else -1


def test_one_pass_counts_all_protocols() -> None:
    calls = []

    def segment(batch: list[Episode]) -> torch.Tensor:
        calls.append(len(batch))
        return LOGITS.expand(len(batch), -1, -1, -1)

    rows = [Episode(int(CLASSES[number % 3]), number % 3, (0,)) for number in range(12)]
    episodes = EpisodeList("abc", 0, 1, 0, tuple(rows))
    bank = SimpleNamespace(dataset=Pictures(), batch=lambda chunk: chunk)
    protocols = [sized(name, side) if side else PROTOCOLS[name] for name, (side, _) in HAND_WORKED.items()]
    scores = evaluate_under(segment, bank, episodes, protocols)
    assert calls == [10, 2]
    for name, (_, expected) in HAND_WORKED.items():
        assert scores[name].counts.tolist() == expected * 4
        assert scores[name].class_index.tolist() == CLASSES.tolist() * 4
        assert scores[name].episodes_sha256 == episodes.sha256
    with pytest.raises(ValueError, match="another data set"):
        evaluate_under(segment, bank, replace(episodes, dataset="xyz"), protocols)
    cannot_show = EpisodeList("abc", 0, 1, 0, (Episode(2, 1, (0,)),))
    scores = evaluate_under(lambda _: LOGITS[None], bank, cannot_show, [PROTOCOLS["ours"]])
    assert scores["ours"].counts.tolist() == [[0, 0, 0, 0]]  # nothing to find says nothing of the class


def test_errors_name_the_value_and_the_remedy() -> None:
    bam, ours, labels = PROTOCOLS["bam"], PROTOCOLS["ours"], made_up_labels()[0]
    for call, message in [
        (lambda: bam.size.of("ade20k"), "benchmark is 'ade20k'; choose one of pascal5i"),
        (lambda: protocol_counts(bam, LOGITS, labels, benchmark="fss1000"), "protocol bam has no fss1000"),
        (lambda: protocol_counts(ours, LOGITS[None], labels), r"logits are torch.float32 \(1"),
        (lambda: protocol_counts(ours, LOGITS, torch.zeros(2, 3, 4)), r"labels have shape \(2, 3, 4\)"),
        (lambda: padded_size(5, 400, 473), "leaves 0 x 472 in a square of 473"),
        (lambda: protocol_score(ours, CLASSES, np.array(OURS), classes=(0, 2)), "class index 1 is not among the fold"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_seeds_of_bam_are_those_that_its_first_seed_gives() -> None:
    assert tuple(np.random.RandomState(123).randint(0, 1000, 5).tolist()) == PROTOCOLS["bam"].seeds


# Read in the repositories and written down a second time, apart from specs.toml: episodes, seeds, size, geometry,
# corners aligned, resolution of labels, least pixels, where 255 is background, rule, drawing, workers, COCO folds, FB.
_NONE = (None, None, None)
FIGURES = {
    "ours": (
        (1000, 1000, 1000), (0, 1, 2, 3, 4), _NONE, "squash", False, "own",
        (2048, 2048, 0), (), "accumulated", "turns", (0, 0, 0), "interleaved", True,
    ),
    "hsnet": (
        (1000, 1000, 2400), (0,), (400, 400, 400), "squash", True, "network",
        (None, None, 0), ("coco20i", "fss1000"), "clamped", "listed", (0, 0, 0), "interleaved", True,
    ),
    "pfenet": (
        (5001, 20001, None), (321,), (473, 641, None), "pad", True, "longer side",
        (2048, 2048, None), (), "epsilon", "images", (8, 16, None), "interleaved", True,
    ),
    "bam": (
        (1000, 1000, None), (510, 365, 382, 322, 988), (473, 641, None), "pad", True, "longer side",
        (2048, 2048, None), (), "epsilon", "images", (8, 8, None), "interleaved", True,
    ),
    "ssp": (
        (1000, 4000, None), (0, 1, 2, 3, 4), _NONE, "own", True, "own",
        (2048, 2048, None), (), "seen", "random", (4, 4, None), "blocked", False,
    ),
}  # fmt: skip
REPOSITORIES = {
    "ours": "",
    "hsnet": "juhongm999/hsnet@6b1bc12",
    "pfenet": "dvlab-research/PFENet@a505675",
    "bam": "chunbolang/BAM@c0f935c",
    "ssp": "fanq15/SSP@df5bd49",
}


def test_figures_are_those_written_down_twice() -> None:
    assert {name: protocol.repository for name, protocol in PROTOCOLS.items()} == REPOSITORIES
    assert {name: tuple(vars(protocol).values())[2:-1] for name, protocol in PROTOCOLS.items()} == FIGURES
    assert [protocol.name for protocol in PROTOCOLS.values()] == list(FIGURES)
    assert PROTOCOLS["ours"].min_pixels._asdict() == {name: entry.min_pixels for name, entry in PUBLISHED.items()}


def test_every_fact_of_a_repository_has_its_place() -> None:
    for protocol in PROTOCOLS.values():
        if protocol.repository:
            assert set(protocol.where) == {field.name for field in fields(protocol)} - {"name", "repository", "where"}


def test_the_page_shows_the_figures_of_the_specs() -> None:
    page = write_protocols.PAGE.read_text(encoding="utf-8")
    assert write_protocols.whole(page) == page, "run `python tools/write_protocols.py`"
    table = write_protocols.table()
    for protocol in PROTOCOLS.values():
        assert f"{protocol.episodes.pascal5i:,} / " in table and protocol.repository in page
    with pytest.raises(SystemExit, match="has no marks"):
        write_protocols.put_between("nothing here", "protocols", table)
