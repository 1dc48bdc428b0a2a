"""Lists of PFENet and HSNet: read as written, and mistakes told with their line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from published_files import hsnet_classes, write_lines

from dpnet_lite.published.list_files import ClassPair, read_hsnet_fold, read_hsnet_list, read_ids, read_pfenet_list


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("2008_2\r\n2007_1\r\n\r\n", ("2008_2", "2007_1")),  # as an editor on Windows saves it
        ("JPEGImages/2007_1.jpg else/where/new_cls/2007_1.png\n", ("2007_1",)),
        ("JPEGImages\\2007_1.jpg masks\\2007_1.png\n", ("2007_1",)),
        ("\ufeff2007_1\n2007_2\n", ("2007_1", "2007_2")),  # a mark of byte order is no part of an id
    ],
)
def test_both_forms_of_pfenet(tmp_path: Path, text: str, ids: tuple[str, ...]) -> None:
    assert read_pfenet_list(write(tmp_path / "list.txt", text)) == ids


def test_which_file_of_a_folder_counts(tmp_path: Path) -> None:
    write(tmp_path / "voc_sbd_merge_noduplicate.txt", "JPEGImages/b.jpg SegmentationClassAug/b.png\n")
    write(tmp_path / "val.txt", "c\na\nc\n")  # sorted and single
    assert (read_ids(tmp_path, "train"), read_ids(tmp_path, "val")) == (("b",), ("a", "c"))
    write(tmp_path / "train.txt", "a\n")  # VOC's own, where both lie in one folder
    assert read_ids(tmp_path, "train") == ("b",)
    for split in ("train", "val"):
        write(tmp_path / f"{split}_ids.txt", "d\n")
        assert read_ids(tmp_path, split) == ("d",)
    pairs = write(tmp_path / "mine.txt", "b__02\na__01\nb__01\n")
    assert read_ids(pairs, "train") == ("a", "b")


def test_hsnet_pairs_keep_order_and_count_classes_from_zero(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "fold0.txt", ["2008_2__05", "2007_1__01"])
    assert read_hsnet_list(path) == (ClassPair("2008_2", 4), ClassPair("2007_1", 0))


def test_hsnet_trains_on_the_other_folds_in_order(tmp_path: Path) -> None:
    for split in ("trn", "val"):
        for fold in range(4):
            write_lines(tmp_path / split / f"fold{fold}.txt", [f"{split}{fold}__{5 * fold + 1:02d}"])
    assert [pair.id for pair in read_hsnet_fold(tmp_path, "train", 1)] == ["trn0", "trn2", "trn3"]
    assert read_hsnet_fold(tmp_path, "val", 1) == (ClassPair("val1", 5),)
    assert read_ids(tmp_path, "train") == ("trn0", "trn1", "trn2", "trn3")
    with pytest.raises(ValueError, match="fold is 4; HSNet's lists have folds 0 to 3"):
        read_hsnet_fold(tmp_path, "val", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\na.jpg a.png extra\n", "line 2 is 'a.jpg a.png extra'; write"),
        ("x/a.jpg y/b.png\n", "line 1 names image a and mask b"),
        ("a\n\nb__01\n", "line 3 is 'b__01'"),
        ("\n \n", "is empty"),
    ],
)
def test_bad_lines_of_pfenet(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pfenet_list(write(tmp_path / "list.txt", text))


@pytest.mark.parametrize("line", ["a__21", "a__00", "a__x", "a", "a__01 b"])
def test_bad_lines_of_hsnet(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=f"line 2 is '{line}'; write \"ID__CC\""):
        read_hsnet_list(write(tmp_path / "list.txt", f"good__20\n{line}\n"))


def test_a_pair_that_stands_twice_would_be_tested_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 3 is 'a__1', but it stands above, too; remove one$"):
        read_hsnet_list(write(tmp_path / "list.txt", "a__01\nb__01\na__1\n"))


def test_absent_and_binary_lists(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no list .*none\.txt"):
        read_ids(tmp_path / "none.txt", "val")
    with pytest.raises(FileNotFoundError, match=r"holds no list of train; put train_ids\.txt or .*train\.txt there"):
        read_ids(tmp_path, "train")
    (tmp_path / "picture.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="not a text file"):
        read_ids(tmp_path / "picture.txt", "val")


def test_rule_of_hsnet_by_hand() -> None:
    """A class is kept from three of the pixels (1, 1), (1, 33), (33, 1), ... on; its size does not matter."""
    labels = torch.zeros(100, 70, dtype=torch.uint8)  # the pixels looked at: rows 1, 33, 65, 97 and columns 1, 33, 65
    labels[0:2, 0:2] = labels[32:34, 32:34] = labels[96:98, 64:66] = 4  # decided: all four candidates each time
    labels[34:64, :] = 7  # 2,100 px between the rows looked at
    labels[64:66, :] = 255
    labels[1, 33] = labels[1, 65] = labels[96, 0] = 9  # three with the right ties, two with ours
    labels[33, 1] = labels[33, 65] = labels[97, 1] = 12  # three with ours, none where the other pixel is taken
    assert hsnet_classes(labels) == ((3, 11), (8, 11))
    assert hsnet_classes(torch.full((1, 1), 5, dtype=torch.uint8)) == ((), ())
