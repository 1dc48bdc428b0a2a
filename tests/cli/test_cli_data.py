"""`dpnet-lite data`: plain words, status 2 where something is amiss, lists compared with the published ones."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from coco_fss_trees import FSS_SPLITS, write_coco, write_fss
from made_up_pascal import write_pascal
from published_files import read_list

from dpnet_lite.cli.main import build_parser, main
from dpnet_lite.published import episode_lists as published_episodes
from dpnet_lite.published import fss
from dpnet_lite.published.episode_lists import SEEDS, list_name


def run(*words: str | Path, said: list[str] | None = None) -> str:
    """What the command says, kept in `said` too; errors are raised."""
    said, text = [] if said is None else said, io.StringIO()
    args = build_parser().parse_args(["data", *map(str, words)])
    try:
        with contextlib.redirect_stdout(text):
            args.run(args)
    finally:
        said.append(text.getvalue().rstrip("\n"))
    return said[-1]


@pytest.fixture
def fss_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up tree that counts as whole."""
    for split, names in FSS_SPLITS.items():
        monkeypatch.setitem(fss.SPLIT_SIZES, split, len(names))
    write_fss(tmp_path / "fss")
    return tmp_path / "fss"


@pytest.fixture
def hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of published hashes that a test may fill."""
    path = tmp_path / "hashes.json"
    path.write_text("{}")
    monkeypatch.setattr(published_episodes, "HASHES", path)
    return path


def test_check_groups_what_it_finds(fss_root: Path) -> None:
    assert run("check", "fss1000", "--root", fss_root).splitlines() == [
        f"FSS-1000 in {fss_root}",
        "found:",
        "  trn.txt: 6 classes of train",
        "  train: 10 images with masks in each of 6 classes",
        "  val.txt: 4 classes of val",
        "  val: 10 images with masks in each of 4 classes",
        "  test.txt: 4 classes of test",
        "  test: 10 images with masks in each of 4 classes",
    ]


def test_check_ends_with_one_line_where_something_is_amiss(fss_root: Path) -> None:
    (fss_root / "mug" / "3.png").unlink()
    (fss_root / "nail" / "2.jpg").write_bytes(b"")
    (fss_root / "val.txt").unlink()
    said: list[str] = []
    with pytest.raises(ValueError, match=r"^2 missing and 1 wrong in .*; the lines above say what to do$"):
        run("check", "fss1000", "--root", fss_root, said=said)
    text = said[0].splitlines()
    assert text.index("found:") < text.index("missing:") < text.index("wrong:")
    assert text[text.index("wrong:") + 1].startswith(f"  {fss_root / 'nail' / '2.jpg'} cannot be read as an image")


def test_line_breaks_in_names_of_folders_and_files_are_escaped(fss_root: Path, tmp_path: Path) -> None:
    root, said = fss_root.rename(tmp_path / "a\nb\r"), list[str]()
    (root / "mug" / "x\n\udcff.jpg").touch()
    with pytest.raises(ValueError, match=r"^1 wrong in "):
        run("check", "fss1000", "--root", root, said=said)
    lines = said[0].split("\n")
    assert lines[0] == rf"FSS-1000 in {tmp_path}/a\nb\r" and len(lines) == 9
    assert lines[-1] == rf"  {tmp_path}/a\nb\r/mug/x\n\udcff.jpg is not one of the images 1 to 10; remove it"


def test_deep_check_decodes_all_three(tmp_path: Path, fss_root: Path) -> None:
    write_coco(tmp_path / "coco", 2014)
    tree = write_pascal(tmp_path / "pascal", n_train=20, n_val=20)
    broken = {
        "coco20i": min((tmp_path / "coco" / "val2014").iterdir()),
        "pascal5i": tree.base / "JPEGImages" / f"{tree.val_ids[0]}.jpg",
        "fss1000": fss_root / "mug" / "3.jpg",
    }
    roots = {"coco20i": tmp_path / "coco", "pascal5i": tree.root, "fss1000": fss_root}
    for name, path in broken.items():
        assert "can be read" in run("check", name, "--root", roots[name], "--deep")
        path.write_bytes(path.read_bytes()[:-100])  # the header is whole
        run("check", name, "--root", roots[name])
        said: list[str] = []
        with pytest.raises(ValueError, match=r"^1 wrong in "):
            run("check", name, "--root", roots[name], "--deep", said=said)
        assert f"wrong:\n  {path} cannot be read as an image" in said[0]


def test_check_of_the_other_two(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco", 2014)
    text = run("check", "coco20i", "--root", tmp_path / "coco")
    assert text.startswith(f"COCO-20i in {tmp_path / 'coco'}\nfound:\n  instances_train2014.json: 80 classes")
    assert "worth knowing:" in text and "missing:" not in text and "wrong:" not in text
    with pytest.raises(ValueError, match="takes its images from the annotations; leave it out"):
        run("check", "coco20i", "--root", tmp_path / "coco", "--lists", tmp_path)
    tree = write_pascal(tmp_path / "pascal")
    shutil.rmtree(tree.base / "JPEGImages")
    with pytest.raises(ValueError, match=r"missing.* in .*pascal; the lines above say what to do$"):
        run("check", "pascal5i", "--root", tmp_path / "pascal")


def test_prepare(tmp_path: Path, fss_root: Path) -> None:
    write_coco(tmp_path / "coco")
    said = run("prepare", "coco20i", "--root", tmp_path / "coco", "--cache", tmp_path / "cache")
    assert said.startswith("train 2017: 12 masks in ") and len(list(tmp_path.glob("cache/*/*.png"))) == 24
    assert "no preparation" in run("prepare", "fss1000", "--root", fss_root)
    for name in ("coco20i", "fss1000"):
        with pytest.raises(ValueError, match="not downloaded by this command"):
            run("prepare", name, "--root", tmp_path / "coco", "--download")
    tree = write_pascal(tmp_path / "pascal", prepared=False)
    run("prepare", "pascal5i", "--root", tmp_path / "pascal")
    made = {path.stem for path in (tree.base / "SegmentationClassAug").iterdir()}
    assert made >= set(tree.train_ids) - set(tree.voc_train) != set()


def test_a_missing_package_is_told_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"^pycocotools draws COCO's masks: pip install 'dpnet-lite\[benchmarks\]'"
    ):
        run("episodes", "coco20i", "--root", tmp_path, "--cache", tmp_path / "cache", "--out", tmp_path / "out")


def test_lists_that_nobody_published_are_written_and_called_so(tmp_path: Path, hashes: Path) -> None:
    write_coco(tmp_path / "coco")
    where = ["--root", tmp_path / "coco", "--cache", tmp_path / "cache", "--out", tmp_path / "out"]
    text = run("episodes", "coco20i", *where, "--folds", "1", "3", "--shots", "1")
    assert len(list((tmp_path / "cache").glob("*/*.png"))) == 12  # drawn masks and counts lie where they should
    assert len(list((tmp_path / "cache").glob("index-*.npz"))) == 1
    names = [list_name(fold, 1, seed) for fold in (1, 3) for seed in SEEDS]
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == sorted(f"{name}.json.xz" for name in names)
    lines = text.splitlines()
    assert lines[0] == "COCO-20i, split val, 12 images"
    assert lines[-1] == f"10 lists in {tmp_path / 'out'}: 10 not yet published"
    left_out = [line for line in lines if line.startswith(("Fold 1, 1-shot: the scores are of ", "Fold 3, 1-shot: "))]
    assert len(left_out) == 2 and all(line.endswith(": no episode (each needs two images)") for line in left_out)
    for name, line in zip(names, lines[1:-3], strict=True):
        written = read_list(tmp_path / "out" / f"{name}.json.xz")
        assert line.split(maxsplit=2) == [name, written.sha256, "not yet published"]


def test_equal_and_different_lists(tmp_path: Path, fss_root: Path, hashes: Path) -> None:
    words = ("episodes", "fss1000", "--root", fss_root, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    drawn = dict(line.split()[:2] for line in run(*words).splitlines()[1:-1])
    fingerprint = read_list(tmp_path / "out" / "fold0-1shot-seed0.json.xz").dataset
    hashes.write_text(json.dumps({"fss1000": {"fingerprint": fingerprint, "lists": drawn}}))
    assert run(*words).splitlines()[-1].endswith(": 10 equal")
    path = tmp_path / "out" / "fold0-1shot-seed0.json.xz"
    path.write_bytes(b"another list")
    with pytest.raises(
        ValueError, match=r"seed0\.json\.xz holds something else; give another folder .*, or delete it$"
    ):
        run(*words)
    assert path.read_bytes() == b"another list"
    path.unlink()
    assert run(*words)
    other = {**drawn, "fold0-5shot-seed4": "0" * 64}
    hashes.write_text(json.dumps({"fss1000": {"fingerprint": fingerprint, "lists": other}}))
    with pytest.raises(ValueError, match=r"^1 of 10 lists differ .* ones: they are drawn in another way$"):
        run(*words)
    hashes.write_text(json.dumps({"fss1000": {"fingerprint": "", "lists": other}}))
    with pytest.raises(ValueError, match=r"^1 of 10 .* this copy has other images, classes or masks"):
        run(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "voc", "--root", "x"), "invalid choice: 'voc'"),
        (("check", "fss1000"), "the following arguments are required: --root"),
        (("prepare", "fss1000", "--root", "x", "--worker", "2"), "is --workers meant?"),
        (("episodes", "fss1000", "--root", "x", "--fold", "2"), "is --folds meant?"),
    ],
)
def test_wrong_words_take_one_line(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_folds_that_do_not_exist(fss_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fold is 2, but FSS-1000 has no folds"):
        run("episodes", "fss1000", "--root", fss_root, "--folds", "2", "--out", tmp_path / "out")
    with pytest.raises(ValueError, match="fold is 4, but COCO-20i has folds 0 to 3"):  # before masks are drawn
        run("episodes", "coco20i", "--root", tmp_path / "nowhere", "--folds", "0", "4")
    with pytest.raises(FileNotFoundError, match=r"has no test\.txt or fss_test_set\.txt"):
        run("episodes", "fss1000", "--root", tmp_path, "--out", tmp_path / "out")


def test_exit_status(fss_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "check", "fss1000", "--root", str(fss_root)]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("FSS-1000 in ")
    (fss_root / "test.txt").unlink()
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "missing:\n" in shown.out and shown.err.splitlines()[-1].startswith("dpnet-lite: error: 1 missing in ")
