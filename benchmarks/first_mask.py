"""How long a person waits for the first mask of a photograph, and for the next one.

python benchmarks/first_mask.py --runs 5

Fresh interpreters in turn: one imports PyTorch alone, one loads the shipped weights and segments shipped photographs.
Printed are medians of wall-clock seconds, and of their differences pair by pair.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

_TORCH = "import time; start = time.perf_counter(); import torch; print(time.perf_counter() - start)"
_MASKS = """
import json, time
start = time.perf_counter()
import torch
from dpnet_lite.predictor import Predictor
from dpnet_lite.datasets import OBJECTS_FOLDER
support, *queries = sorted((OBJECTS_FOLDER / "images").glob("dog*"))
predictor = Predictor.load("photographs")
predictor.set_support([support], [OBJECTS_FOLDER / "masks" / f"{support.stem}.png"])
predictor.predict(queries[0])
first, following = time.perf_counter() - start, []
for number in range(20):
    start = time.perf_counter()
    predictor.predict(queries[number % len(queries)])
    following.append(time.perf_counter() - start)
print(json.dumps([first, sorted(following)[10], predictor.size, torch.get_num_threads()]))
"""


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="pairs of interpreters")
    pairs = [(float(_run(_TORCH)), json.loads(_run(_MASKS))) for _ in range(parser.parse_args().runs)]
    torch_alone, first = [pair[0] for pair in pairs], [pair[1][0] for pair in pairs]
    beyond = [mask - alone for mask, alone in zip(first, torch_alone, strict=True)]
    following, (_, _, size, threads) = [pair[1][1] for pair in pairs], pairs[0][1]
    print(f"photographs of 384 x 384 pixels, network input {size} px, {threads} threads, {len(pairs)} pairs")
    print(f"import torch: {statistics.median(torch_alone):.2f} s; first mask, from the start: ", end="")
    print(f"{statistics.median(first):.2f} s, {statistics.median(beyond):.2f} s beyond import torch")
    print(f"next mask: {statistics.median(following):.3f} s")


if __name__ == "__main__":
    main()
