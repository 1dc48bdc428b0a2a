"""The main job as a command: train, score beside two rivals, print a table, write pictures.

Every finished (fold, seed) is a JSON file in the output folder; `resume` skips those that the same settings made.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dpnet_lite.backbones.backbone import Backbone, build_backbone
from dpnet_lite.caches import default_cache
from dpnet_lite.checkpoints import versions
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.folder import read_class_names
from dpnet_lite.datasets.folds import FoldLayout
from dpnet_lite.datasets.novel import NovelPolicy
from dpnet_lite.datasets.toy import DEFAULT_GAP, WORLD_VERSION, catalogue_names
from dpnet_lite.episodes import EpisodeList
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.fold_data import N_FOLDS, FoldData, folder_bank, folder_fold, toy_fold
from dpnet_lite.experiments.fold_run import FULL, FoldResult, run_fold, training_facts
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.experiments.tables import difference_table, fold_table, summary_table
from dpnet_lite.features import FeatureBank
from dpnet_lite.heads import save_head
from dpnet_lite.tensor_files import write_atomically

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoConfig:
    """What to run. `data` is "toy" or a folder; the other data fields belong to one of the two."""

    data: str
    model: ModelConfig
    training: TrainingConfig
    backbone: str
    size: int
    backbone_weights: Path | None = None
    precision: str = "fp32"
    folds: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    shots: tuple[int, ...] = (1, 5)
    n_episodes: int = 500
    gap: float = DEFAULT_GAP  # toy only
    n_folds: int = N_FOLDS
    layout: FoldLayout = "interleaved"
    extra_base: tuple[Path, ...] = ()  # folders only, as the next three
    policy: NovelPolicy = "drop"
    original_size: bool = False
    cache_folder: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        # Found before the training, not after it.
        lists = [("shots", n_shot, 1) for n_shot in self.shots] + [("seeds", seed, 0) for seed in self.seeds]
        for name, value, lowest in [("episodes", self.n_episodes, 1), ("size", self.size, 1), *lists]:
            if value < lowest:
                raise ValueError(f"--{name} has {value}; give at least {lowest}")

    def identity(self, backbone: Backbone, bank: FeatureBank | None, fold: int, seed: int) -> dict[str, Any]:
        """What a (fold, seed) result depends on, as plain JSON; paths by name only."""
        facts = asdict(replace(self, folds=(fold,), seeds=(seed,), training=replace(self.training, seed=seed)))
        for name in ("cache_folder", "device", "backbone_weights"):
            del facts[name]
        facts["data"] = self.data if self.data == "toy" else Path(self.data).name
        facts["extra_base"] = [path.name for path in self.extra_base]
        facts["backbone_key"] = backbone.cache_key
        facts["dataset"] = f"toy {WORLD_VERSION}" if bank is None else bank.dataset.fingerprint
        return json.loads(json.dumps(facts))


def run_demo(
    config: DemoConfig, output: Path, *, say: Say, resume: bool = False, pictures: bool = True
) -> list[FoldResult]:
    """Run all folds and seeds of `config`, write results, heads and pictures to `output`, say the tables."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("demo runs in one process, but torchrun started several; use train for several processes")
    if pictures and importlib.util.find_spec("matplotlib") is None:
        say("no pictures: matplotlib is missing; install it with: pip install 'dpnet-lite[notebooks]'")
        pictures = False
    backbone = build_backbone(
        config.backbone, config.backbone_weights, device=config.device, precision=config.precision
    )
    output.mkdir(parents=True, exist_ok=True)
    bank = None if config.data == "toy" else demo_bank(config, backbone)
    results, last = [], None
    for fold in config.folds:
        for seed in config.seeds:
            path = output / f"fold{fold}_seed{seed}.json"
            identity = config.identity(backbone, bank, fold, seed)
            done = load_result(path, identity) if resume else None
            if done is None:
                stage = _stages(config, fold, seed)
                data = demo_fold(config, backbone, bank, fold, seed, stage)
                done = run_fold(
                    data,
                    config.model,
                    replace(config.training, seed=seed),
                    shots=config.shots,
                    n_episodes=config.n_episodes,
                    original_size=config.original_size,
                    device=config.device,
                    stage=stage,
                )
                _save_heads(output, done, data, config)
                save_result(path, done, identity)  # last: where it lies, the fold is done
                last = (data, done)
            results.append(done)
    say(_tables(results, config))
    if pictures and last is not None:
        for path in draw(output, *last):
            say(f"picture: {path}")
    return results


def demo_bank(config: DemoConfig, backbone: Backbone) -> FeatureBank:
    roots = [Path(config.data), *config.extra_base]
    cache = config.cache_folder or default_cache()
    return folder_bank(roots, backbone, size=config.size, cache_folder=cache, device=config.device, stage=Stages())


def _stages(config: DemoConfig, fold: int, seed: int) -> Stages:
    """The numbered steps of one fold and seed."""
    prefix = f"fold {fold}, seed {seed}: " if len(config.folds) * len(config.seeds) > 1 else ""
    n_own = 4 if config.data == "toy" else 2  # drawing two sets of toy scenes, training two heads
    return Stages(n_own + 3 * len(config.shots), prefix)


def demo_fold(
    config: DemoConfig, backbone: Backbone, bank: FeatureBank | None, fold: int, seed: int, stage: Stages
) -> FoldData:
    """One fold of the toy world (`bank` is None) or of folder data."""
    if bank is None:
        return toy_fold(backbone, fold, seed=seed, gap=config.gap, device=config.device, stage=stage)
    return folder_fold(
        bank,
        fold,
        n_classes=len(own_class_names(config)),
        n_folds=config.n_folds,
        layout=config.layout,
        policy=config.policy,
    )


def own_class_names(config: DemoConfig) -> tuple[str, ...]:
    """The classes that are split into folds: the data set's own, without those of further folders."""
    return catalogue_names() if config.data == "toy" else read_class_names(Path(config.data) / "classes.txt")


def _tables(results: Sequence[FoldResult], config: DemoConfig) -> str:
    first = results[0].episodes if results[0].episodes else {}
    hashes = ", ".join(f"{n_shot}-shot {episodes.sha256[:12]}" for n_shot, episodes in sorted(first.items()))
    parts = [
        f"Novel classes of fold {', '.join(map(str, config.folds))}, seeds {', '.join(map(str, config.seeds))}, "
        f"{config.n_episodes} episodes each (SHA-256 of fold {results[0].fold}: {hashes})",
        summary_table(results),
        difference_table(results),
    ]
    if len(config.folds) > 1:
        parts.append(fold_table(results))
    return "\n\n".join(parts)


def _save_heads(output: Path, result: FoldResult, data: FoldData, config: DemoConfig) -> None:
    training = replace(config.training, seed=result.seed)
    for name, trained in result.trained.items():
        path = output / f"{name.replace(' ', '_').lower()}_fold{result.fold}_seed{result.seed}.safetensors"
        scores = {f"{n_shot}-shot mIoU": s.miou for (method, n_shot), s in result.scores.items() if method == name}
        save_head(
            path,
            trained.head,
            data.train.backbone,
            size=data.train.size,
            episodes={str(k): e.sha256 for k, e in result.episodes.items()},
            scores=scores,
            **training_facts(data, training, trained),
        )


def save_result(path: Path, result: FoldResult, identity: dict[str, Any]) -> None:
    """Write the scores of one (fold, seed), with what they depend on."""
    record = {
        "identity": identity,
        "versions": versions(),
        "fold": result.fold,
        "seed": result.seed,
        "episodes": {str(n_shot): json.loads(e.to_json()) for n_shot, e in result.episodes.items()},
        "scores": [[m, n_shot, s.to_dict()] for (m, n_shot), s in result.scores.items()],
    }
    write_atomically(path, json.dumps(record).encode())


def load_result(path: Path, identity: dict[str, Any]) -> FoldResult | None:
    """Read a result back if it was made by the same settings; None where there is none or another."""
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path} is damaged; delete it, and its fold and seed are run again") from None
    if not isinstance(record, dict) or record.get("identity") != identity:
        return None
    scores = {(m, n_shot): EpisodeScores.from_dict(s) for m, n_shot, s in record["scores"]}
    episodes = {int(k): EpisodeList.from_json(json.dumps(e)) for k, e in record["episodes"].items()}
    return FoldResult(record["fold"], record["seed"], scores, episodes)


def draw(output: Path, data: FoldData, result: FoldResult) -> list[Path]:
    """Write the episode and learning-curve pictures of one trained fold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from dpnet_lite.experiments.plots import episodes_figure, learning_curve_figure

    heads = {name: trained.head.cpu() for name, trained in result.trained.items()}
    shown = result.episodes[min(result.episodes)].episodes[:5]
    figures = {
        "episodes.png": episodes_figure(data.test, shown, heads, main=FULL),
        "learning_curve.png": learning_curve_figure({n: t.losses for n, t in result.trained.items()}),
    }
    for name, figure in figures.items():
        figure.savefig(output / name, dpi=150)
        plt.close(figure)
    return [output / name for name in figures]
