"""The work of `dpnet-lite data`: checking a published data set, preparing it, drawing its frozen episode lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from dpnet_lite.published.episode_lists import SHOTS, compare_with_published, draw_lists, published_hashes, write_list
from dpnet_lite.published.findings import Finding
from dpnet_lite.published.mask_index import Progress
from dpnet_lite.published.registry import fold_classes, open_published, published

HEADINGS = {"found": "found", "note": "worth knowing", "missing": "missing", "wrong": "wrong"}
Steps = Callable[[str], Progress]  # the name of a step -> the wrapper of its loop


class Report(NamedTuple):
    """Text for people, and one line that says what is amiss; None where nothing is."""

    text: str
    problem: str | None


def check_data(
    name: str, root: Path, lists: Path | None = None, *, deep: bool = False, steps: Steps = lambda name: iter
) -> Report:
    """What is there of a data set, what is missing and what is wrong; `deep` decodes every image and mask.

    Raises:
        ValueError: no such data set, or lists for one that takes none.
    """
    findings = _findings(name, root, lists, deep, steps)
    lines = [f"{published(name).title} in {root}"]
    for kind, heading in HEADINGS.items():
        texts = [finding.text for finding in findings if finding.kind == kind]
        lines += [f"{heading}:", *(f"  {text}" for text in texts)] if texts else []
    counts = Counter(finding.kind for finding in findings)
    amiss = " and ".join(f"{counts[kind]} {kind}" for kind in ("missing", "wrong") if counts[kind])
    return Report("\n".join(lines), f"{amiss} in {root}; the lines above say what to do" if amiss else None)


def prepare_data(
    name: str, root: Path, *, download: bool, workers: int, cache_folder: Path | None, steps: Steps
) -> str:
    """Make what can be made once: PASCAL-5i's masks of SBD, COCO-20i's masks; says what was done.

    Raises:
        ValueError: no such data set, or a download that is not offered.
    """
    published(name)
    if name == "pascal5i":
        from dpnet_lite.published.pascal_prepare import prepare_pascal

        return prepare_pascal(root, download=download, workers=workers, steps=steps)
    if name == "coco20i":
        from dpnet_lite.published.coco_files import prepare_coco

        return prepare_coco(root, download=download, workers=workers, cache_folder=cache_folder, steps=steps)
    if download:
        raise ValueError(
            "FSS-1000 is not downloaded by this command, since it lies on Google Drive; follow the link of "
            f"github.com/HKUSTCV/FSS-1000 and unpack it in {root}"
        )
    return "FSS-1000 needs no preparation: its masks are read as they are"


def write_episodes(
    name: str,
    root: Path,
    output: Path,
    *,
    lists: Path | None = None,
    folds: Sequence[int] | None = None,
    shots: Sequence[int] = SHOTS,
    cache_folder: Path | None = None,
    steps: Steps,
) -> Report:
    """Draw the frozen lists of a data set, write them, and compare their hashes with the published ones.

    Args:
        name: "pascal5i", "coco20i" or "fss1000".
        root: folder of the data set; images are not read.
        output: folder of the files, FOLD-SHOTS-SEED.json.xz.
        lists: list files of one's own.
        folds: all if None.
        shots: 1 and 5 are published.
        cache_folder: for counts and masks; the user's cache if None.
        steps: gives the wrapper of a loop for the name of a step.

    Raises:
        ValueError: no such data set or fold.
        FileNotFoundError: a part of the copy is absent.
    """
    entry = published(name)
    folds = range(entry.n_folds) if folds is None else folds
    for fold in folds:  # before hours of drawing masks
        fold_classes(name, fold, entry.test_split, n_split_classes=1)
    dataset = open_published(
        name, root, entry.test_split, lists=lists, cache_folder=cache_folder, progress=steps("counting masks")
    )
    fingerprint = dataset.fingerprint  # counts the masks, under its own bar
    lines, verdicts = [f"{entry.title}, split {entry.test_split}, {len(dataset):,} images"], Counter[str]()
    for fold in steps("drawing episodes")(folds):
        for key, episodes in draw_lists(dataset, name, folds=[fold], shots=shots):
            write_list(output / f"{key}.json.xz", episodes)
            verdict = compare_with_published(name, key, episodes.sha256)
            verdicts[verdict] += 1
            lines.append(f"{key}  {episodes.sha256}  {verdict}")
    total, counts = sum(verdicts.values()), ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    lines.append(f"{total} lists in {output}: {counts}")
    if not verdicts["different"]:
        return Report("\n".join(lines), None)
    hashes = published_hashes(name)
    other = hashes is not None and hashes.fingerprint != fingerprint
    reason = "this copy has other images, classes or masks" if other else "they are drawn in another way"
    problem = f"{verdicts['different']} of {total} lists differ from the published ones: {reason}"
    return Report("\n".join(lines), problem)


def _findings(name: str, root: Path, lists: Path | None, deep: bool, steps: Steps) -> list[Finding]:
    published(name)
    if name == "pascal5i":
        from dpnet_lite.published.pascal_files import check_pascal

        return check_pascal(root, lists, deep=deep, progress=steps("reading files"))
    if name == "coco20i":
        from dpnet_lite.published.coco_files import check_coco

        return check_coco(root, lists, deep=deep, progress=steps("reading images"))
    from dpnet_lite.published.fss_files import check_fss

    return check_fss(root, lists, deep=deep, progress=steps("checking classes"))
