"""Kill five kinds of work (SIGKILL) at random moments, go on with each, and compare with the uninterrupted one.

    python tools/torture.py [--kills 5] [--seed 0] [NAME ...]     # make torture; writes docs/torture.txt

After each kill the work is started again as a person would: `train` with --resume where there is a state, the others
by the same command. Compared are the files that the work leaves, byte for byte (rows of ablations without times).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from ablation_runs import rows_without_times  # noqa: E402
from coco_fss_trees import write_coco  # noqa: E402

LOG = ROOT / "docs" / "torture.txt"
LESSON = "07_evaluation"
PACKAGE = [sys.executable, "-m", "dpnet_lite"]
FEATURES = """
import sys
from pathlib import Path
from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.experiments.kept_features import compute_features
compute_features(ToyWorld(1500, seed=3), build_backbone("tiny"), size=96, cache_folder=Path(sys.argv[1]))
"""


class Work(NamedTuple):
    """One kind of work in a folder of its own."""

    command: Callable[[Path], list[str]]
    result: Callable[[Path], object]


def files(folder: Path, pattern: str) -> dict[str, str]:
    """SHA-256 of the files that a pattern names, by their path in the folder."""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def train(folder: Path) -> list[str]:
    go_on = ["--resume"] if (folder / "head" / "state.bin").exists() else []
    settings = ["--steps", "300", "--training", "checkpoint_every=10", "batch_size=4"]
    return [*PACKAGE, "train", *settings, *go_on, "--threads", "1", "--out", str(folder / "head.safetensors")]


def prepare(folder: Path) -> list[str]:
    if not (folder / "coco").exists():
        write_coco(folder / "coco", per_class=60, pictures=False)
    return [*PACKAGE, "data", "prepare", "coco20i", "--root", str(folder / "coco"), "--cache", str(folder / "cache")]


def features_of(folder: Path) -> dict[str, str]:
    return files(folder, "cache/*/*.npy")


WORKS = {
    "train": Work(train, lambda folder: files(folder, "head.safetensors") | files(folder, "head/log.jsonl")),
    "ablate": Work(
        lambda folder: [sys.executable, str(ROOT / "tests/ablation_runs.py"), str(folder), "local", "2", "10"],
        rows_without_times,
    ),
    "data prepare": Work(prepare, lambda folder: files(folder, "cache/**/*.png")),
    "feature cache": Work(lambda folder: [sys.executable, "-c", FEATURES, str(folder / "cache")], features_of),
    "make notebooks": Work(
        lambda folder: [sys.executable, str(ROOT / "tools/build_notebooks.py"), LESSON, "--out", str(folder / "out")],
        lambda folder: files(folder, "out/*.ipynb"),
    ),
}


def start(work: Work, folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            work.command(folder), cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )


def end(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.wait():
        raise SystemExit(f"{folder}: " + (folder / "output.txt").read_text(errors="replace")[-2000:])


def tortured(name: str, kills: int, chance: random.Random, scratch: Path) -> str:
    """Kill one kind of work; a line of the log. SystemExit where it does not go on, or leaves something else."""
    work, whole, cut = WORKS[name], scratch / "whole", scratch / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    begin = time.monotonic()
    end(start(work, whole), whole)
    seconds = time.monotonic() - begin
    moments: list[str] = []
    while len(moments) < kills:
        process, moment = start(work, cut), chance.uniform(0.02, 1.0) * seconds
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(f"{moment:.1f}")
            continue
        end(process, cut)  # it was done before: what it left counts, and another round begins
        compare(name, work, whole, cut)
        shutil.rmtree(cut)
        cut.mkdir()
    end(start(work, cut), cut)
    compare(name, work, whole, cut)
    return f"{name}: whole in {seconds:.0f} s; killed after {', '.join(moments)} s; went on, and left the same"


def compare(name: str, work: Work, whole: Path, cut: Path) -> None:
    expected, found = work.result(whole), work.result(cut)
    if not expected or expected != found:
        raise SystemExit(f"{name}: something else is left: {json.dumps(found)[:500]} for {json.dumps(expected)[:500]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="of each kind of work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKS)} (default: all)")
    args = parser.parse_args()
    chance, lines = random.Random(args.seed), []
    for name in args.names or WORKS:
        with tempfile.TemporaryDirectory() as scratch:
            lines.append(tortured(name, args.kills, chance, Path(scratch)))
            print(lines[-1], flush=True)
    if not args.names:
        total = args.kills * len(WORKS)
        LOG.write_text("\n".join([f"{total} kills (SIGKILL), seed {args.seed}", *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
