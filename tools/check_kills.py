"""Kill an ablation at random moments, resume it, and compare its table with that of an uninterrupted run, row by row.

python tools/check_kills.py [KILLS] [SEED]
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))
from ablation_runs import rows_without_times  # noqa: E402

SEEDS = 20  # of the small study: enough runs that none of the kills comes after the end
COMMAND = [sys.executable, str(TESTS / "ablation_runs.py")]


def study(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "output.txt").open("a") as output:
        return subprocess.Popen([*COMMAND, str(folder), "local", "2", str(SEEDS)], stdout=output, stderr=output)


def main(kills: int, seed: int) -> None:
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        whole, cut = Path(name) / "whole", Path(name) / "cut"
        for folder in (whole, cut):
            folder.mkdir()
        start = time.monotonic()
        if study(whole).wait():
            raise SystemExit((whole / "output.txt").read_text())
        seconds = time.monotonic() - start
        killed = 0
        while killed < kills:
            process = study(cut)
            time.sleep(choose.uniform(0.05, 0.25) * seconds)
            if process.poll() is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            print(f"kill {killed}: {len(rows_without_times(cut))} rows", flush=True)
        if study(cut).wait():
            raise SystemExit((cut / "output.txt").read_text())
        expected, found = (rows_without_times(folder) for folder in (whole, cut))
        same = sum(expected[key] == found.get(key) for key in expected)
        print(f"{killed} kills; {same} of {len(expected)} rows equal, {len(found) - same} others")
        if found != expected:
            raise SystemExit("the tables differ")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
