"""The work of `dpnet-lite data`: checking a published data set, preparing it, drawing its frozen episode lists."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dpnet_lite.datasets.base import class_counts
from dpnet_lite.datasets.images import image_size, read_image, read_mask
from dpnet_lite.experiments.tables import episode_notes
from dpnet_lite.features import Progress
from dpnet_lite.published.coco import (
    SPLITS,
    YEARS,
    Coco20i,
    annotation_path,
    find_year,
    image_folder,
    refuse_lists,
    refuse_two_years,
)
from dpnet_lite.published.coco_masks import AnnotatedImage, read_annotations, undrawn_note
from dpnet_lite.published.episode_lists import SHOTS, compare_with_published, draw_lists, published_hashes, write_list
from dpnet_lite.published.extras import import_extra
from dpnet_lite.published.fss import (
    IMAGES_PER_CLASS,
    SPLIT_SIZES,
    THRESHOLD,
    claim_classes,
    class_folder,
    read_class_list,
    read_fss_mask,
)
from dpnet_lite.published.list_files import read_ids
from dpnet_lite.published.mask_index import check_size
from dpnet_lite.published.pascal import PREPARE, VOC_CLASSES, PascalFolders, fold_pairs, refuse_shared
from dpnet_lite.published.pascal_facts import PASCAL5I_FACTS, differences, measured_facts
from dpnet_lite.published.registry import fold_classes, open_published, published

_ANNOTATED_IN_2014 = {"train": 82_081, "val": 40_137}  # images with annotation, in PFENet's lists [its README]
_SHOWN = 20  # broken files that are named one by one
_Steps = Callable[[str], Progress]  # the name of a step -> the wrapper of its loop


class Finding(NamedTuple):
    """One line of a check: what is right, not there, there and of no use as it is, or only worth knowing."""

    kind: Literal["found", "missing", "wrong", "note"]
    text: str  # for people; for "missing" and "wrong" it ends with the remedy


_found, _note, _missing, _wrong = (partial(Finding, kind) for kind in ("found", "note", "missing", "wrong"))


class Report(NamedTuple):
    """Lines for people, and one line that says what is amiss; None where nothing is."""

    lines: list[str]
    problem: str | None


def check_data(
    name: str, root: Path, lists: Path | None = None, *, deep: bool = False, steps: _Steps = lambda name: iter
) -> Report:
    """What `examine` finds, in words."""
    findings = examine(name, root, lists, deep=deep, progress=steps("reading files"))
    lines = [f"{published(name).title} in {root}"]
    for kind in ("found", "note", "missing", "wrong"):
        texts = [f"  {finding.text}" for finding in findings if finding.kind == kind]
        lines += [f"{'worth knowing' if kind == 'note' else kind}:", *texts] if texts else []
    counts = Counter(finding.kind for finding in findings)
    amiss = " and ".join(f"{counts[kind]} {kind}" for kind in ("missing", "wrong") if counts[kind])
    return Report(lines, f"{amiss} in {root}; the lines above say what to do" if amiss else None)


def examine(
    name: str, root: str | Path, lists: str | Path | None = None, *, deep: bool = False, progress: Progress = iter
) -> list[Finding]:
    """What is there of a data set, what is missing and what is wrong.

    PASCAL-5i: every mask is decoded, of the images the header is read, and the counts are compared with the published
    ones. COCO-20i: annotations are parsed, images are looked for. FSS-1000: as PASCAL-5i, without counts.

    Args:
        lists: list files of one's own; for FSS-1000 the folder of the class lists.
        deep: decode every image and mask.
        progress: wraps the loops over files.

    Raises ValueError: no such data set, or lists for COCO-20i, which takes none.
    """
    published(name)
    if name == "coco20i":
        refuse_lists(lists)
    root, lists = Path(root).expanduser(), None if lists is None else Path(lists).expanduser()
    if not root.is_dir():
        return [_missing(f"{root} is not a folder; give the one that holds the data set")]
    if name == "pascal5i":
        findings = _examine_pascal(PascalFolders(root), lists, deep, progress)
    elif name == "coco20i":
        findings = _examine_coco(root, deep, progress)
    else:
        findings = _examine_fss(root, root if lists is None else lists, deep, progress)
    return list(_told(findings))


def prepare_data(
    name: str, root: Path, *, download: bool, workers: int, cache_folder: Path | None, steps: _Steps
) -> list[str]:
    """Make what can be made once: PASCAL-5i's masks of SBD, COCO-20i's masks; says what was done, in a few lines.

    Raises ValueError: no such data set, or a download that is not offered.
    """
    title = published(name).title
    if name == "pascal5i":
        from dpnet_lite.published.pascal_prepare import prepare_pascal

        return prepare_pascal(root, download=download, workers=workers, steps=steps)
    if download:
        files = "train2014.zip, val2014.zip and annotations_trainval2014.zip from cocodataset.org"
        files = files if name == "coco20i" else "the archive that github.com/HKUSTCV/FSS-1000 links to"
        raise ValueError(f"{title} is not downloaded by this command; unpack {files} in {root}")
    if name == "fss1000":
        if not root.is_dir():
            raise FileNotFoundError(f"{root} is not a folder; give the one that holds the data set")
        return ["FSS-1000 needs no preparation: its masks are read as they are"]
    lines = []
    for split in SPLITS:
        dataset = Coco20i(root, split, cache_folder=cache_folder, workers=workers, progress=steps(f"masks of {split}"))
        lines.append(f"{split} {dataset.year}: {len(dataset.index):,} masks in {dataset.masks.folder}")
    return lines


def write_episodes(
    name: str,
    root: Path,
    output: Path,
    *,
    lists: Path | None = None,
    folds: Sequence[int] | None = None,
    shots: Sequence[int] = SHOTS,
    cache_folder: Path | None = None,
    steps: _Steps,
) -> Report:
    """Draw the frozen lists of a data set, write them, and compare their hashes with the published ones.

    Args:
        root: folder of the data set; images are not read.
        output: folder of the files, FOLD-SHOTS-SEED.json.xz.
        lists: list files of one's own.
        folds: all if None.
        cache_folder: for counts and masks; the user's cache if None.

    Raises ValueError: no such data set or fold; FileNotFoundError: a part of the copy is absent.
    """
    entry = published(name)
    folds = range(entry.n_folds) if folds is None else folds
    for fold in folds:  # before hours of drawing masks
        fold_classes(name, fold, entry.test_split, n_split_classes=1)
    dataset = open_published(
        name, root, entry.test_split, lists=lists, cache_folder=cache_folder, progress=steps("counting masks")
    )
    fingerprint = dataset.fingerprint  # counts the masks, under its own bar
    notes = dict[str, None]()
    lines, verdicts = [f"{entry.title}, split {entry.test_split}, {len(dataset):,} images"], Counter[str]()
    for fold in steps("drawing episodes")(folds):
        novel = fold_classes(name, fold, entry.test_split, n_split_classes=len(dataset.class_names)).novel
        for key, episodes in draw_lists(dataset, name, folds=[fold], shots=shots):
            write_list(output / f"{key}.json.xz", episodes)
            verdict = compare_with_published(name, key, episodes.sha256)
            verdicts[verdict] += 1
            lines.append(f"{key}  {episodes.sha256}  {verdict}")
            notes |= dict.fromkeys(episode_notes([episodes], novel, dataset.class_names))
    total, counts = sum(verdicts.values()), ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    lines += [*notes, f"{total} lists in {output}: {counts}"]
    if not verdicts["different"]:
        return Report(lines, None)
    hashes = published_hashes(name)
    other = hashes is not None and hashes.fingerprint != fingerprint
    reason = "this copy has other images, classes or masks" if other else "they are drawn in another way"
    problem = f"{verdicts['different']} of {total} lists differ from the published ones: {reason}"
    return Report(lines, problem)


def _examine_pascal(folders: PascalFolders, lists: Path | None, deep: bool, progress: Progress) -> Iterator[Finding]:
    counts = Counter(path.parent.name for path in folders.mask_names.values())
    if not counts:
        yield _missing(f"{folders.base} has no masks; give another root, or run: {PREPARE}")
        return
    used = ", ".join(f"{count:,} from {name}" for name, count in sorted(counts.items()))
    yield _found(f"masks in {folders.base}: {used}")
    ids_of: dict[str, tuple[str, ...]] = {}
    pixels: dict[str, np.ndarray] = {}  # of the splits whose masks are all there and whole
    failures: list[Finding] = []
    for split in ("train", "val"):
        try:
            ids_of[split] = folders.read_split(split) if lists is None else read_ids(lists, split)
        except (OSError, ValueError) as error:
            failures.append(_failure(error))
            continue
        counted = yield from _examine_pascal_split(folders, split, ids_of[split], deep, progress)
        if counted is not None:
            pixels[split] = counted
    yield from dict.fromkeys(failures)  # val.txt is needed for both splits
    yield from _refusal(refuse_shared, ids_of.get("train", ()), ids_of.get("val", ()))
    if lists is not None and "val" in pixels and (lists / "val").is_dir():  # HSNet's
        for fold in range(4):
            novel = fold_classes("pascal5i", fold, "val").novel
            yield from _refusal(fold_pairs, lists, fold, novel, ids_of["val"], pixels["val"])
    if len(pixels) == 2:
        others = differences(measured_facts(pixels["train"], pixels["val"]))
        for text in others:
            yield _note(f"{text}; scores on this copy do not compare with published ones")
        if not others:
            text = f"{PASCAL5I_FACTS.train_images:,} training and {PASCAL5I_FACTS.val_images:,} test images"
            yield _found(f"{text}, and the counts of all folds are those of the published data")


def _examine_pascal_split(
    folders: PascalFolders, split: str, ids: tuple[str, ...], deep: bool, progress: Progress
) -> Generator[Finding, None, np.ndarray | None]:
    """Findings on a split; returns its counts [n_images, 20], None where a mask is absent or broken."""
    present = [name for name in ids if name in folders.mask_names]
    has_images = any(folder.is_dir() for folder in folders.images)
    absent, bad_masks, bad_images = list[str](), list[Finding](), list[Finding]()
    pixels = np.zeros((len(present), len(VOC_CLASSES)), np.int32)
    for row in progress(range(len(present))):
        mask_path, image_path = folders.mask_names[present[row]], folders.image_path(present[row])
        try:
            labels = read_mask(mask_path, of_voc=True)
            pixels[row] = class_counts(mask_path, labels, len(VOC_CLASSES))[1 : len(VOC_CLASSES) + 1]
        except (OSError, ValueError) as error:
            bad_masks.append(_failure(error))
            continue
        if has_images and not image_path.is_file():
            absent.append(image_path.name)
        elif has_images:
            bad_images += _image_faults(image_path, labels.shape, deep)
    if without := [name for name in ids if name not in folders.mask_names]:
        text = f"{split}: {len(without):,} of {len(ids):,} listed images have no mask, first {without[0]}"
        yield _missing(f"{text}; {folders.remedy(without)}, or correct the list")
    yield from _first(bad_masks, split, "get the folder again")
    yield from _first(bad_images, split, "get the folder again")
    if not has_images:
        text = f"{split}: no folder {folders.images[0]} (masks alone do to draw episodes, not to train or score)"
        yield _missing(f"{text}; it comes with VOC2012's trainval archive")
    elif absent:
        text = f"{split}: {len(absent):,} of {len(ids):,} images are absent, first {absent[0]}"
        yield _missing(f"{text}; they come with VOC2012's trainval archive")
    if without or bad_masks:
        return None
    what = "them and their masks" if deep and has_images and not bad_images and not absent else "their masks"
    yield _found(f"{split}: {len(ids):,} images listed, all of {what} can be read")
    return pixels


def _examine_coco(root: Path, deep: bool, progress: Progress) -> Iterator[Finding]:
    import_extra("pycocotools.mask", "draws COCO's masks")
    findings = [*chain(*(_told(_examine_coco_split(root, split, deep, progress)) for split in SPLITS))]
    yield from findings
    yield from (finding for finding in _refusal(refuse_two_years, root) if finding not in findings)


def _examine_coco_split(root: Path, split: str, deep: bool, progress: Progress) -> Iterator[Finding]:
    year = find_year(root, split)
    path = annotation_path(root, split, year)
    images, n_listed, faults, undrawn = read_annotations(path)
    yield _found(f"{path.name}: 80 classes, {n_listed:,} images, {len(images):,} of them with annotations")
    yield from _first([_wrong(f"{path.name}: {fault}") for fault in faults], path.name, "correct or remove them")
    if undrawn:
        yield _note(f"{path.name}: {undrawn_note(undrawn)}")
    expected = _ANNOTATED_IN_2014[split]
    if year == 2014 and len(images) != expected:
        yield _note(f"{path.name}: PFENet's list of this split has {expected:,} images, this one {len(images):,}")
    if year != YEARS[0]:
        yield _note(f"{split} is of {year}; published work uses {YEARS[0]}")
    yield from _examine_coco_images(image_folder(root, split, year), images, deep, progress)


def _examine_coco_images(
    folder: Path, images: Sequence[AnnotatedImage], deep: bool, progress: Progress
) -> Iterator[Finding]:
    if not folder.is_dir():
        yield _missing(f"{folder}/; unpack {folder.name}.zip there")
        return
    paths = {image.file_name: folder / image.file_name for image in images}
    next(folder.iterdir(), None)  # a closed folder is told as such
    is_open = lambda path: path.is_file() and os.access(path, os.R_OK)  # noqa: E731
    bytes_of = {name: path.stat().st_size * is_open(path) for name, path in paths.items() if path.exists()}
    missing = [image.file_name for image in images if image.file_name not in bytes_of]
    empty = [image.file_name for image in images if bytes_of.get(image.file_name) == 0]
    if missing:
        text = f"{folder}/ lacks {len(missing):,} of {len(images):,} images, first {missing[0]}; unpack it again"
        yield _missing(text)
    if empty:
        yield _wrong(f"{folder}/ has {len(empty):,} files that are empty or closed, first {empty[0]}; unpack it again")
    if not missing and not empty:
        yield _found(f"{folder}/: all {len(images):,} annotated images")
    left = [image for image in images if bytes_of.get(image.file_name)] if deep else []
    faults: list[Finding] = []
    for row in progress(range(len(left))):
        faults += _image_faults(folder / left[row].file_name, (left[row].height, left[row].width), deep)
    yield from _first(faults, f"{folder}/", "unpack it again")
    if left and not faults:
        yield _found(f"{folder}/: {len(left):,} images can be read")


def _examine_fss(root: Path, lists: Path, deep: bool, progress: Progress) -> Iterator[Finding]:
    owner: dict[str, str] = {}
    for split in SPLIT_SIZES:
        yield from _told(_examine_fss_split(root, lists, split, owner, deep, progress))


def _examine_fss_split(
    root: Path, lists: Path, split: str, owner: dict[str, str], deep: bool, progress: Progress
) -> Iterator[Finding]:
    """Findings on a split; `owner` has the split of every class that was listed so far."""
    path, names = read_class_list(lists, split)
    yield _found(f"{path.name}: {len(names)} classes of {split}")
    if len(names) != (size := SPLIT_SIZES[split]):
        yield _note(f"{path} names {len(names)} classes, but the split has {size}: hashes of lists will differ")
    yield from _refusal(claim_classes, path, names, split, owner)
    folder = class_folder(root, ())
    yield from _refusal(class_folder, root, names)
    present = [name for name in names if (folder / name).is_dir()]
    rows = progress(range(len(present)))
    faults = [fault for row in rows for fault in _told(_fss_faults(folder / present[row], deep))]
    yield from _first(faults, split, "unpack FSS-1000 again")
    if not faults and len(present) == len(names):
        text = f"{split}: {IMAGES_PER_CLASS} images with masks in each of {len(names)} classes"
        yield _found(f"{text}, all can be read" if deep else text)


def _fss_faults(folder: Path, deep: bool) -> Iterator[Finding]:
    images = {path.stem for path in folder.iterdir() if path.suffix == ".jpg" and not path.name.startswith(".")}
    expected, empty, full = [str(number) for number in range(1, IMAGES_PER_CLASS + 1)], list[str](), list[str]()
    for stem in sorted(images - set(expected)):
        yield _wrong(f"{folder / stem}.jpg is not one of the images 1 to {IMAGES_PER_CLASS}; remove it")
    for stem in expected:
        image, mask = folder / f"{stem}.jpg", folder / f"{stem}.png"
        if absent := [path for path in (image, mask) if not path.is_file()]:
            yield _missing(f"{absent[0]}; unpack FSS-1000 again")
            continue
        try:
            labels = read_fss_mask(mask)
        except (OSError, ValueError) as error:
            yield _failure(error)
            continue
        empty += [] if labels.any() else [mask.name]
        full += [mask.name] if labels.all() else []
        yield from _image_faults(image, labels.shape, deep)
    if empty:
        text = f"{len(empty)} of {IMAGES_PER_CLASS} masks have no value from {THRESHOLD} on, so no object"
        yield _wrong(f"{folder}: {text}, first {empty[0]}; store the object as 255, or unpack FSS-1000 again")
    if full:
        yield _note(f"{folder}: {len(full)} of {IMAGES_PER_CLASS} masks are object all over, first {full[0]}")


def _told(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings, and as the last one the error that ends them."""
    try:
        yield from findings
    except (OSError, ValueError, ModuleNotFoundError) as error:
        yield _failure(error)


def _refusal(check: Callable[..., object], *arguments: Any) -> Iterator[Finding]:
    """The error of a call, if it raises one."""
    try:
        check(*arguments)
    except (OSError, ValueError) as error:
        yield _failure(error)


def _failure(error: Exception) -> Finding:
    cause = error.__cause__ or error  # images are read in words of their own
    if isinstance(cause, PermissionError):
        return _wrong(f"{cause.filename} cannot be read ({cause.strerror}); change its owner or its permissions")
    is_absent = isinstance(error, FileNotFoundError | ModuleNotFoundError)
    return Finding("missing" if is_absent else "wrong", str(error))


def _first(faults: Sequence[Finding], where: str, remedy: str) -> Iterator[Finding]:
    """The first faults, and how many more there are."""
    yield from faults[:_SHOWN]
    if len(faults) > _SHOWN:
        yield _wrong(f"{where}: {len(faults) - _SHOWN:,} more of this kind; {remedy}")


def _image_faults(path: Path, mask_size: Sequence[int], deep: bool) -> Iterator[Finding]:
    """What is wrong with an image, of which the header alone is read unless `deep`: no image, or not as its mask."""
    yield from _refusal(lambda: check_size(path, read_image(path).shape[1:] if deep else image_size(path), mask_size))
