"""What is there of COCO, and drawing its masks ahead of time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dpnet_lite.datasets.images import read_image
from dpnet_lite.published.coco import SPLITS, YEARS, Coco20i, annotation_path, find_year, image_folder, refuse_lists
from dpnet_lite.published.coco_annotations import Annotations, read_annotations
from dpnet_lite.published.coco_masks import require_pycocotools
from dpnet_lite.published.findings import Finding
from dpnet_lite.published.mask_index import Progress

# Images of PFENet's lists of COCO 2014 [its README], which leave out those without annotation.
ANNOTATED_IN_2014 = {"train": 82_081, "val": 40_137}
SHOWN = 5  # broken images that are named one by one


def check_coco(
    root: str | Path, lists: str | Path | None = None, *, deep: bool = False, progress: Progress = iter
) -> list[Finding]:
    """Compare a copy with the official layout: annotations are parsed, images are looked for but not read.

    Args:
        root: the folder with annotations/.
        lists: there is no such thing for COCO; must be None.
        deep: decode the images too.
        progress: wraps the loop over the images that are decoded.

    Raises:
        ValueError: `lists` was given.
    """
    refuse_lists(lists)
    root = Path(root).expanduser()
    if not root.is_dir():
        return [Finding("missing", f"{root} is not a folder; give the one with annotations/ and train2014/")]
    findings: list[Finding] = []
    years: set[int] = set()
    for split in SPLITS:
        try:
            year = find_year(root, split)
        except FileNotFoundError as error:
            findings.append(Finding("missing", str(error)))
            continue
        years.add(year)
        findings += _check(root, split, year, deep, progress)
        if year != YEARS[0]:
            findings.append(Finding("note", f"{split} is of {year}; published work uses {YEARS[0]}"))
    if len(years) > 1:
        text = "train and val are of two years, and train2017 holds images of val2014"
        findings.append(Finding("wrong", f"{text}; unpack COCO's annotations_trainval2014.zip, which has both"))
    try:
        require_pycocotools()
    except ModuleNotFoundError as error:
        findings.append(Finding("missing", str(error)))
    return findings


def prepare_coco(
    root: str | Path,
    *,
    download: bool = False,
    workers: int = 1,
    cache_folder: Path | None = None,
    steps: Callable[[str], Progress] = lambda name: iter,
) -> str:
    """Draw the masks of both splits into the cache, and count them; says what was done, in a few lines.

    Args:
        root: the folder with annotations/.
        download: not offered; True raises an error that says what to get.
        workers: processes that draw.
        cache_folder: the user's cache if None.
        steps: gives the wrapper of a loop for the name of a step.

    Raises:
        ValueError: `download`, or the annotations do not make sense.
        FileNotFoundError: no annotations.
    """
    if download:
        raise ValueError(
            "COCO is not downloaded by this command; unpack train2014.zip, val2014.zip and "
            f"annotations_trainval2014.zip from cocodataset.org in {root}"
        )
    lines = []
    for split in SPLITS:
        dataset = Coco20i(root, split, cache_folder=cache_folder, workers=workers, progress=steps(f"masks of {split}"))
        lines.append(f"{split} {dataset.year}: {len(dataset.index):,} masks in {dataset.mask_folder}")
    return "\n".join(lines)


def _check(root: Path, split: str, year: int, deep: bool, progress: Progress) -> list[Finding]:
    path = annotation_path(root, split, year)
    try:
        annotations = read_annotations(path)
    except ValueError as error:
        return [Finding("wrong", str(error))]
    count = len(annotations.images)
    listed = f"{path.name}: {len(annotations.class_names)} classes, {annotations.n_listed:,} images"
    findings = [Finding("found", f"{listed}, {count:,} of them with annotations")]
    expected = ANNOTATED_IN_2014[split]
    if year == 2014 and count != expected:
        text = f"{path.name}: PFENet's list of this split has {expected:,} images, this one {count:,}"
        findings.append(Finding("note", text))
    folder = image_folder(root, split, year)
    findings += _check_images(folder, annotations)
    return [*findings, *(_decode_images(folder, annotations, progress) if deep else [])]


def _check_images(folder: Path, annotations: Annotations) -> list[Finding]:
    if not folder.is_dir():
        return [Finding("missing", f"{folder}/; unpack {folder.name}.zip there")]
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    wanted = [image.file_name for image in annotations.images]
    missing = [name for name in wanted if name not in sizes]
    empty = [name for name in wanted if sizes.get(name) == 0]
    findings = []
    if missing:
        text = f"{folder}/ lacks {len(missing):,} of {len(wanted):,} images, first {missing[0]}; unpack it again"
        findings.append(Finding("missing", text))
    if empty:
        text = f"{folder}/ has {len(empty):,} empty files, first {empty[0]}; unpack it again"
        findings.append(Finding("wrong", text))
    return findings or [Finding("found", f"{folder}/: all {len(wanted):,} annotated images")]


def _decode_images(folder: Path, annotations: Annotations, progress: Progress) -> list[Finding]:
    """Findings on the images that are there and not empty: whether they can be read and have the annotated size."""
    images = [image for image in annotations.images if _has_bytes(folder / image.file_name)]
    wrong = []
    for row in progress(range(len(images))):
        path, size = folder / images[row].file_name, (images[row].height, images[row].width)
        try:
            shape = tuple(read_image(path).shape[1:])
        except ValueError as error:
            wrong.append(str(error))
            continue
        if shape != size:
            text = f"{path} is {shape[1]} x {shape[0]} pixels, but its annotations are for {size[1]} x {size[0]}"
            wrong.append(f"{text}; get the image again")
    if not wrong:
        return [Finding("found", f"{folder}/: {len(images):,} images can be read")] if images else []
    findings = [Finding("wrong", text) for text in wrong[:SHOWN]]
    if len(wrong) > SHOWN:
        findings.append(Finding("wrong", f"{folder}/: {len(wrong) - SHOWN:,} more of this kind; unpack it again"))
    return findings


def _has_bytes(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
