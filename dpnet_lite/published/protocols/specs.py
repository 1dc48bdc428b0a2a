"""What five evaluation protocols fix: episodes, seeds, sizes, geometry, resolution of the labels, and the mean.

The figures were read in the code of each repository at the commit named; `where` says in which file and line. The
protocols are named after the repositories, but a paper's own figures can come from other settings than its public
code has today.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from dpnet_lite.datasets.folds import FoldLayout

Benchmark = Literal["pascal5i", "coco20i", "fss1000"]
Geometry = Literal["squash", "pad", "own"]
Resolution = Literal["own", "network", "longer side"]
Rule = Literal["accumulated", "clamped", "epsilon", "seen"]
Drawing = Literal["turns", "listed", "images", "random"]


class PerBenchmark(NamedTuple):
    """One figure for each benchmark; None where the repository has none."""

    pascal5i: int | None
    coco20i: int | None
    fss1000: int | None

    def of(self, benchmark: str) -> int | None:
        """The figure of a benchmark.

        Raises:
            ValueError: an unknown benchmark.
        """
        if benchmark not in get_args(Benchmark):
            raise ValueError(f"benchmark is {benchmark!r}; choose one of {', '.join(get_args(Benchmark))}")
        value: int | None = getattr(self, benchmark)
        return value


@dataclass(frozen=True)
class Protocol:
    """One way of testing.

    Attributes:
        name: the key in `PROTOCOLS`.
        repository: owner and name on GitHub, and the commit that was read; empty for our own.
        episodes: test episodes of one fold, one number of shots and one seed.
        seeds: one list of episodes each; several are averaged.
        size: side of the network's square in pixels; None where the repository does not fix it.
        geometry: how the image gets there: "squash" to the square; "pad": keep the aspect, both sides rounded down to
            multiples of 8, then fill to the square; "own": no resizing at all.
        align_corners: of the bilinear resizing of the logits.
        label_resolution: what the prediction is compared with: labels of the image's "own" size; nearest-resized ones
            of the "network"'s square; or own ones in a square of the image's "longer side", filled with 255.
        min_pixels: of the class that a support image must show, at its own size; 0: no rule; None where list files
            decide, or the repository has no such benchmark. `draw_for` draws by it.
        background_255: benchmarks where label 255 counts as background; in all others it counts nowhere.
        rule: how counts become a score, see `protocols.scoring`.
        drawing: how episodes are drawn, see `protocols.drawing`.
        workers: processes that draw, each with random numbers of its own; 0: the main process draws.
        coco_folds: layout of COCO-20i's folds (see `datasets.folds`); those of PASCAL-5i are runs of neighbours in all.
        fb_iou: whether the code reports FB-IoU.
        where: for each fact, the file and the lines that say so.
    """

    name: str
    repository: str
    episodes: PerBenchmark
    seeds: tuple[int, ...]
    size: PerBenchmark
    geometry: Geometry
    align_corners: bool
    label_resolution: Resolution
    min_pixels: PerBenchmark
    background_255: tuple[Benchmark, ...]
    rule: Rule
    drawing: Drawing
    workers: PerBenchmark
    coco_folds: FoldLayout
    fb_iou: bool
    where: tuple[tuple[str, str], ...]

    def source(self, fact: str) -> str:
        """File and lines that state a fact, "" where none is named."""
        return dict(self.where).get(fact, "")


_OURS = Protocol(
    name="ours",
    repository="",
    episodes=PerBenchmark(1000, 1000, 1000),
    seeds=(0, 1, 2, 3, 4),
    size=PerBenchmark(None, None, None),
    geometry="squash",
    align_corners=False,
    label_resolution="own",
    min_pixels=PerBenchmark(2048, 2048, 0),
    background_255=(),
    rule="accumulated",
    drawing="turns",
    workers=PerBenchmark(0, 0, 0),
    coco_folds="interleaved",
    fb_iou=True,
    where=(
        ("episodes", "dpnet_lite/published/protocols/specs.py"),
        ("drawing", "dpnet_lite/episodes.py"),
        ("geometry", "dpnet_lite/datasets/transforms.py"),
        ("label_resolution", "dpnet_lite/scoring.py"),
        ("rule", "dpnet_lite/evaluation.py"),
    ),
)

_HSNET = Protocol(
    name="hsnet",
    repository="juhongm999/hsnet@6b1bc12",
    episodes=PerBenchmark(1000, 1000, 2400),
    seeds=(0,),
    size=PerBenchmark(400, 400, 400),
    geometry="squash",
    align_corners=True,
    label_resolution="network",
    min_pixels=PerBenchmark(None, None, 0),
    background_255=("coco20i", "fss1000"),
    rule="clamped",
    drawing="listed",
    workers=PerBenchmark(0, 0, 0),
    coco_folds="interleaved",
    fb_iou=True,
    where=(
        ("episodes", "data/pascal.py 30, data/coco.py 30, data/fss.py 32 (240 classes of ten images)"),
        ("seeds", "test.py 20"),
        ("size", "test.py 88"),
        ("geometry", "data/dataset.py 26"),
        ("align_corners", "model/hsnet.py 57"),
        ("label_resolution", "data/pascal.py 39, data/coco.py 40, data/fss.py 39"),
        ("min_pixels", "data/splits/ (how the lists were made: not found); data/fss.py 107-114"),
        ("background_255", "common/evaluation.py 15-21; data/coco.py and data/fss.py give no ignored pixels"),
        ("rule", "common/logger.py 24-43"),
        ("drawing", "data/pascal.py 33, 96-105; data/coco.py 84-99; data/fss.py 81-96, 107-114"),
        ("workers", "data/dataset.py 35"),
        ("coco_folds", "data/coco.py 62"),
        ("fb_iou", "common/logger.py 42"),
    ),
)

_PFENET = Protocol(
    name="pfenet",
    repository="dvlab-research/PFENet@a505675",
    episodes=PerBenchmark(5001, 20001, None),
    seeds=(321,),
    size=PerBenchmark(473, 641, None),
    geometry="pad",
    align_corners=True,
    label_resolution="longer side",
    min_pixels=PerBenchmark(2048, 2048, None),
    background_255=(),
    rule="epsilon",
    drawing="images",
    workers=PerBenchmark(8, 16, None),
    coco_folds="interleaved",
    fb_iou=True,
    where=(
        ("episodes", "test.py 174-185 (one more than the 5,000 and 20,000 that it names)"),
        ("seeds", "config/*/*.yaml manual_seed, test.py 163-168"),
        ("size", "config/*/*.yaml val_size"),
        ("geometry", "util/transform.py 83-120"),
        ("align_corners", "test.py 202"),
        ("label_resolution", "test.py 196-200, config/*/*.yaml ori_resize"),
        ("min_pixels", "util/dataset.py 60"),
        ("background_255", "util/util.py 73"),
        ("rule", "test.py 214-216, 240-246"),
        ("drawing", "util/dataset.py 147-199, test.py 182-186"),
        ("workers", "config/*/*.yaml workers, test.py 142"),
        ("coco_folds", "util/dataset.py 85-130, config/coco/*.yaml use_split_coco"),
        ("fb_iou", "test.py 233-235"),
    ),
)

_BAM = Protocol(
    name="bam",
    repository="chunbolang/BAM@c0f935c",
    episodes=PerBenchmark(1000, 1000, None),
    seeds=(510, 365, 382, 322, 988),
    size=PerBenchmark(473, 641, None),
    geometry="pad",
    align_corners=True,
    label_resolution="longer side",
    min_pixels=PerBenchmark(2048, 2048, None),
    background_255=(),
    rule="epsilon",
    drawing="images",
    workers=PerBenchmark(8, 8, None),
    coco_folds="interleaved",
    fb_iou=True,
    where=(
        ("episodes", "test.py 193-198, 222"),
        ("seeds", "test.py 36-39 (drawn with seed 123); the best of the five is printed too, 175"),
        ("size", "config/*/*resnet50.yaml and *vgg.yaml val_size"),
        ("geometry", "util/transform_tri.py 106-164, config/*/*resnet50.yaml and *vgg.yaml resized_val"),
        ("align_corners", "test.py 248"),
        ("label_resolution", "test.py 239-246, config/*/*resnet50.yaml and *vgg.yaml ori_resize"),
        ("min_pixels", "util/dataset.py 74 (the lists that are read instead, 175-177, are no part of the code)"),
        ("background_255", "util/util.py 84-96"),
        ("rule", "test.py 263-264, 312-321, 329"),
        ("drawing", "util/dataset.py 209-266, test.py 217-223"),
        ("workers", "config/*/*resnet50.yaml and *vgg.yaml workers, test.py 143"),
        ("coco_folds", "util/dataset.py 114-158, config/coco/*resnet50.yaml and *vgg.yaml use_split_coco"),
        ("fb_iou", "test.py 304-306"),
    ),
)

_SSP = Protocol(
    name="ssp",
    repository="fanq15/SSP@df5bd49",
    episodes=PerBenchmark(1000, 4000, None),
    seeds=(0, 1, 2, 3, 4),
    size=PerBenchmark(None, None, None),
    geometry="own",
    align_corners=True,
    label_resolution="own",
    min_pixels=PerBenchmark(2048, 2048, None),
    background_255=(),
    rule="seen",
    drawing="random",
    workers=PerBenchmark(4, 4, None),
    coco_folds="blocked",
    fb_iou=False,
    where=(
        ("episodes", "test.py 84"),
        ("seeds", "test.py 105-107"),
        ("size", "dataset/fewshot.py 80-82"),
        ("geometry", "dataset/fewshot.py 80-82, dataset/transform.py 37-49"),
        ("align_corners", "model/SSP_matching.py 86-89"),
        ("label_resolution", "dataset/fewshot.py 80-88"),
        ("min_pixels", "dataset/fewshot.py 66, 111"),
        ("background_255", "util/utils.py 22"),
        ("rule", "util/utils.py 32-34"),
        ("drawing", "dataset/fewshot.py 48-73"),
        ("workers", "test.py 86"),
        ("coco_folds", "dataset/fewshot.py 33-39 (its folder hsnet_test/ holds HSNet's protocol, for COCO)"),
        ("fb_iou", "not found in test.py"),
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (_OURS, _HSNET, _PFENET, _BAM, _SSP)}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol is {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
