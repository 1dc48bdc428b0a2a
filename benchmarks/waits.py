"""What a person waits for: the import, the demo, scoring, training, the first picture of an explorer and a redraw.

python benchmarks/waits.py

Seconds of wall-clock time, each in fresh processes, so they hold for this machine alone.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.explorers import EXPLORERS, in_fresh_process

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
MASKS = """
import time; start = time.perf_counter()
import torch
from dpnet_lite.predictor import Predictor
from dpnet_lite.datasets import OBJECTS_FOLDER
support, *queries = sorted((OBJECTS_FOLDER / "images").glob("dog*"))
predictor = Predictor.load("photographs")
predictor.set_support([support], [OBJECTS_FOLDER / "masks" / f"{support.stem}.png"])
predictor.predict(queries[0])
print(time.perf_counter() - start)
"""


def output_of(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()[-1]


def import_rows(*, everything: bool) -> Iterator[Row]:
    """Fresh interpreters in turn; medians of the differences pair by pair."""
    alone = TIMED.format("import torch")
    for what, goal, program, pairs in (
        ("import dpnet_lite.predictor", 0.3, TIMED.format("import torch, dpnet_lite.predictor"), 5),
        ("first mask of a photograph, 320 px", None, MASKS, 5 if everything else 0),
    ):
        if not pairs:
            continue
        beyond = [float(output_of("-c", program)) - float(output_of("-c", alone)) for _ in range(pairs)]
        value = statistics.median(beyond)
        yield {"what": f"{what}, beyond import torch, s", "goal": goal, "value": value, "most": max(beyond)}


def toy_rows() -> Iterator[Row]:
    """How long the network of the demo trains until it scores 95 % of what the shipped run of it ended with."""
    trained, scored = json.loads(output_of(__file__, "--toy"))
    yield {"what": "training to 95 % of the final novel mIoU, s", "goal": 30.0, "value": trained}
    yield {"what": "1,000 episodes scored, s", "goal": 20.0, "value": scored}


def demo_row() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        output_of("-m", "dpnet_lite", "demo", "--out", folder)
        return {"what": "`make demo` after the install, s", "goal": 90.0, "value": time.perf_counter() - start}


def toy() -> list[float]:
    """Seconds of training until 95 % of the final score, looked at every 50 steps, and of scoring 1,000 episodes."""
    from dpnet_lite.experiments.experiment import Experiment
    from dpnet_lite.experiments.jobs import FULL
    from dpnet_lite.experiments.presets import TOY
    from dpnet_lite.experiments.results import load_result
    from dpnet_lite.scoring import head_segmenter, score_episodes
    from dpnet_lite.training import Trainer, initial_network

    kept = ROOT / "docs/results/toy/fold0_seed1.json"
    result = load_result(kept, json.loads(kept.read_text())["identity"])
    assert result is not None
    goal = 0.95 * result.scores[FULL, 1].miou
    experiment = Experiment("toy", TOY.model, TOY.training, TOY.backbone, TOY.size)
    data = experiment.fold_data(experiment.build_backbone(), None, 0, result.seed)
    network = initial_network(TOY.model, data.train.backbone, result.seed)
    trainer = Trainer(network, replace(TOY.training, seed=result.seed), data.train, data.base, fold=0)
    episodes = result.episodes[1]
    for stop in range(50, TOY.training.steps + 1, 50):
        trainer.run(stop_after=stop)
        network.eval()
        if score_episodes(head_segmenter(network), data.test, episodes).miou >= goal:
            break
        network.train()
    start = time.perf_counter()
    for _ in range(-(-1000 // len(episodes))):
        score_episodes(head_segmenter(network.eval()), data.test, episodes)
    return [trainer.seconds, (time.perf_counter() - start) * 1000 / (len(episodes) * -(-1000 // len(episodes)))]


def explorer_rows() -> Iterator[Row]:
    """The slowest of all explorers, and which it is."""
    found = [in_fresh_process(name) for name in EXPLORERS]
    slowest = max(found, key=lambda one: one["first"])
    median = statistics.median(one["first"] for one in found)
    yield {
        "what": f"first picture of an explorer beyond import torch, s, median of {len(found)}",
        "goal": 2.0,
        "value": median,
    }
    yield {"what": f"the same, slowest: {slowest['name']}", "goal": 2.0, "value": slowest["first"]}
    redraws = [(t["again"], f"{one['name']}, {key}") for one in found for key, t in one["controls"].items()]
    value = 1e3 * statistics.median(seconds for seconds, _ in redraws)
    yield {"what": f"a redraw, ms, median of {len(redraws)} controls", "goal": 150.0, "value": value}
    seconds, name = max(redraws)
    yield {"what": f"a redraw, ms, slowest: {name}", "goal": 150.0, "value": 1e3 * seconds}


def rows(*, everything: bool) -> Iterator[Row]:
    """`everything`: also the first mask, the demo and the explorers."""
    yield from import_rows(everything=everything)
    yield from toy_rows()
    if everything:
        yield demo_row()
        yield from explorer_rows()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--toy"]:
        print(json.dumps(toy()))
    else:
        for row in rows(everything=True):
            print(f"{row['what']:75} {row['value']:8.3f}  (goal {row['goal']})", flush=True)
