"""All folds and seeds of an experiment, each a JSON file and two heads in a folder; what is done is not done twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from dpnet_lite.checkpoints import DPNET_ALONE, Networks, versions
from dpnet_lite.episodes import EpisodeList
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.experiment import Experiment, FoldData
from dpnet_lite.experiments.jobs import METHODS, FoldResult, run_fold, save_trained
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.storage.files import locked, sha256, write_atomically


class FoldRun(NamedTuple):
    """One fold and seed of an experiment."""

    result: FoldResult
    data: FoldData | None  # None where the result was read from its file


def run_experiment(
    experiment: Experiment,
    output: Path,
    *,
    resume: bool = False,
    may_replace: bool = True,
    networks: Networks = DPNET_ALONE,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[FoldRun]:
    """Run all folds and seeds and write their results and heads to `output`; each is given when it is done.

    With `resume`, results that the same settings made of the same data are read instead, where they and their heads are
    as they were written; `say` is told of others, which are made anew.
    ValueError where another process writes to `output`, or files of these folds and seeds are there that would be
    replaced without `may_replace`: any without `resume`, with it those of other settings.
    """
    runs = [*product(experiment.folds, experiment.seeds)]
    with locked(output / ".lock", f"another process writes to {output}", waits=False):
        found = sorted(path for fold, seed in runs for path in output.glob(f"*fold{fold}_seed{seed}.*"))
        if found and not (resume or may_replace):
            raise ValueError(f"{found[0]} is there already; give --resume, --overwrite, or another folder with --out")
        backbone = experiment.build_backbone()
        bank = None if experiment.is_toy else experiment.folder_bank(backbone)
        identities = {run: experiment.identity(backbone, bank, *run) for run in runs}
        if resume and not may_replace:
            for (fold, seed), identity in identities.items():
                _refuse_other_settings(output / f"fold{fold}_seed{seed}.json", identity)
        for (fold, seed), identity in identities.items():
            path = output / f"fold{fold}_seed{seed}.json"
            done, reason = None, f"{path} was made of other photographs, masks or settings"
            try:
                done = load_result(path, identity, sealed=True) if resume else None
            except ValueError as error:
                reason = str(error)
            if done is not None:
                yield FoldRun(done, None)
                continue
            if resume and path.exists():
                say(f"fold {fold}, seed {seed} is run again: {reason}")
            stage = _stages(experiment, fold, seed)
            data = experiment.fold_data(backbone, bank, fold, seed, stage)
            training = replace(experiment.training, seed=seed)
            result = run_fold(
                data,
                experiment.model,
                training,
                shots=experiment.shots,
                n_episodes=experiment.n_episodes,
                original_size=experiment.original_size,
                repeats=experiment.repeat_support,
                device=experiment.device,
                stage=stage,
                networks=networks,
            )
            split = {"n_folds": experiment.n_folds, "layout": experiment.layout}
            for name, trained in result.trained.items():
                head = output / f"{name.replace(' ', '_').lower()}_fold{fold}_seed{seed}.safetensors"
                scores = {f"{n_shot}-shot mIoU": s.miou for (own, n_shot), s in result.scores.items() if own == name}
                episodes = {str(n_shot): e.sha256 for n_shot, e in result.episodes.items()}
                save_trained(head, data, training, trained, episodes=episodes, scores=scores, **split)
            _save_result(path, result, identity)  # last: where it lies, the fold is done
            yield FoldRun(result, data)


def _stages(experiment: Experiment, fold: int, seed: int) -> Stages:
    """The numbered steps of one fold and seed."""
    prefix = f"fold {fold}, seed {seed}: " if len(experiment.folds) * len(experiment.seeds) > 1 else ""
    n_own = 4 if experiment.is_toy else 2  # drawing two sets of toy scenes, training two heads
    return Stages(n_own + 3 * len(experiment.shots), prefix)


def _refuse_other_settings(path: Path, identity: dict[str, Any]) -> None:
    """ValueError where a result was made with other settings; what it was made of may have changed since."""
    was, now = {}, _flat(identity)
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        was = _flat(json.loads(path.read_text())["identity"])
    for name in now:
        if name in was and was[name] != now[name] and name != "dataset":
            text = f"{path} was made with {name} {was[name]!r}, not {now[name]!r}"
            raise ValueError(f"{text}; give what it was made with, --overwrite, or another --out")


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of an identity by name, such as "training.steps"."""
    parts = {name: value if isinstance(value, dict) else {"": value} for name, value in identity.items()}
    return {f"{part}.{name}".strip("."): value for part, own in parts.items() for name, value in own.items()}


def _save_result(path: Path, result: FoldResult, identity: dict[str, Any]) -> None:
    """Write the scores of one (fold, seed), with what they depend on, digests of its heads' files, and a seal."""
    record = {
        "identity": identity,
        "versions": versions(),
        "fold": result.fold,
        "seed": result.seed,
        "episodes": {str(n_shot): json.loads(e.to_json()) for n_shot, e in result.episodes.items()},
        "scores": [[method, n_shot, s.to_dict()] for (method, n_shot), s in result.scores.items()],
        "heads": {file.name: sha256(file.read_bytes()) for file in path.parent.glob(f"*_{path.stem}.*")},
    }
    record["sha256"] = _seal(record)
    write_atomically(path, json.dumps(record, separators=(",", ":")).encode())


def _seal(record: Mapping[str, Any]) -> str:
    return sha256(json.dumps({name: value for name, value in record.items() if name != "sha256"}).encode())


def _check_seal(folder: Path, record: Mapping[str, Any]) -> None:
    """ValueError where a record, or the file of a head of it, is not what was written."""
    if record.get("sha256") != _seal(record):
        raise ValueError("it was changed since it was written, or an older version wrote it")
    for name, digest in record["heads"].items():
        if not (folder / name).is_file() or sha256((folder / name).read_bytes()) != digest:
            raise ValueError(f"{name} is missing or damaged")


def load_result(path: Path, identity: dict[str, Any], *, sealed: bool = False) -> FoldResult | None:
    """Read a result back if it was made by the same settings; None where there is none or another.

    ValueError where the file is damaged: whatever it says twice must agree; with `sealed`, its heads are to be whole,
    too, and all is to be as it was written.
    """
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if record["identity"] != identity:
            return None
        if sealed:
            _check_seal(path.parent, record)
        episodes = {int(n_shot): EpisodeList.from_json(json.dumps(e)) for n_shot, e in record["episodes"].items()}
        scores = {(method, n_shot): read_scores(s, [episodes[n_shot]]) for method, n_shot, s in record["scores"]}
        found = [[record["fold"]], [record["seed"]], scores.keys()]
        if found != [identity["folds"], identity["seeds"], set(product(METHODS, identity["shots"]))]:
            raise ValueError("fold, seed, methods or shots are not those of its settings")
        return FoldResult(record["fold"], record["seed"], scores, episodes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); --resume makes it anew") from None


def read_scores(values: Any, lists: Iterable[EpisodeList]) -> EpisodeScores:
    """Scores from `to_dict`, with the images of their list, which is one of `lists`; ValueError where none fits."""
    scores = EpisodeScores.from_dict(values)
    for episodes in lists:
        classes = [episode.class_index for episode in episodes]
        if episodes.sha256 == scores.episodes_sha256 and classes == scores.class_index.tolist():
            return replace(scores, images=episodes.images)
    raise ValueError("scores belong to no list of episodes that is there")
