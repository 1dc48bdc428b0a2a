"""Whatever is handed in, a result comes out or one of our errors: never an exception from the inside.

An error is ours where a `raise` of the package made it: a ValueError or an OSError of one line. Twenty examples each
here; for hours of them:

    DPNET_LITE_EXAMPLES=20000 python -m pytest tests/test_any_input.py --hypothesis-seed=1
"""

from __future__ import annotations

import json
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

import dpnet_lite
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.checkpoints import load_trained, save_head
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.folder import FolderDataset
from dpnet_lite.datasets.images import read_image, read_mask
from dpnet_lite.episodes import EpisodeList, draw_episodes
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.predictor import Predictor
from dpnet_lite.storage.files import sha256
from dpnet_lite.storage.run_folder import RunFolder, load_training_state, save_training_state

EXAMPLES = int(os.environ.get("DPNET_LITE_EXAMPLES", "20"))
PACKAGE = str(Path(dpnet_lite.__file__).parent)
many = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
text = st.text(st.characters(exclude_characters="\n"), max_size=8)  # a path with a line break makes two lines of any
plain = st.none() | st.booleans() | st.integers() | st.floats() | text
junk = st.recursive(plain, lambda x: st.lists(x, max_size=3) | st.dictionaries(text, x, max_size=3))
pixels = arrays(st.sampled_from([np.uint8, bool]), array_shapes(min_dims=2, max_dims=3, max_side=6))
any_array = arrays(
    st.sampled_from([np.uint8, np.uint16, np.int64, np.float32, np.complex64, bool, object]),
    array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


def tried(action: Callable[[], Any]) -> Any:
    """What the action gives, or None where it was refused; any other exception is a failure."""
    try:
        with warnings.catch_warnings():  # of ours: what a user is told of input that is taken
            warnings.simplefilter("ignore", UserWarning)
            return action()
    except (ValueError, OSError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        assert last.filename.startswith(PACKAGE), f"raised by {last.filename}:{last.lineno}"
        assert (last.line or "").lstrip().startswith("raise"), f"not raised but let through: {last.line}"
        assert str(error) and "\n" not in str(error), repr(str(error))
        return None


def damaged(values: Any, draw: Callable[[Any], Any]) -> Any:
    """JSON with one place changed: removed, or replaced by anything."""
    if isinstance(values, dict) and values and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(values)))
        rest = {key: value for key, value in values.items() if key != name}
        return rest if draw(st.integers(0, 3)) == 0 else {**values, name: damaged(values[name], draw)}
    if isinstance(values, list) and values and draw(st.booleans()):
        place = draw(st.integers(0, len(values) - 1))
        return [*values[:place], damaged(values[place], draw), *values[place + 1 :]]
    return draw(junk)


def head_file(folder: Path) -> Path:
    """A small head that loads."""
    path = folder / "head.safetensors"
    if not path.exists():
        backbone = build_backbone("tiny")
        network = DPNet(ModelConfig(channels=4), backbone.out_channels, backbone.deep_channels)
        save_head(path, network, backbone, size=32, fold=0, base_classes=["cat"])
    return path


@many
@given(data=st.data())
def test_checkpoints_with_any_record_load_or_are_refused(tmp_path_factory, data):
    path = head_file(tmp_path_factory.getbasetemp())
    with safetensors.safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["record"][64:])  # behind its SHA-256
    text = json.dumps(damaged(record, data.draw))
    changed = path.with_name("changed.safetensors")
    weights = safetensors.torch.load_file(path)
    changed.write_bytes(safetensors.torch.save(weights, {"record": sha256(text.encode()) + text}))
    loaded = tried(lambda: load_trained(changed))
    if loaded is not None:
        image = np.zeros((8, 8, 3), np.uint8)
        tried(
            lambda: Predictor(loaded.head, loaded.backbone, size=loaded.size).set_support([image], [image[..., 0] == 0])
        )


@many
@given(data=st.data())
def test_states_of_any_content_resume_or_are_refused(data):
    identity = {"training": TrainingConfig().to_dict(), "model": ModelConfig().to_dict()}
    state = {"step": 1, "head": {}, "optimiser": {}, "losses": [], "validation": [], "best": None, "identity": identity}
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        path = Path(name) / "state.bin"
        if tried(lambda: save_training_state(path, damaged(state, data.draw))) is not None:
            tried(folder.refuse_stopped_run)
            tried(lambda: folder.restore(identity))
        content = path.read_bytes() if path.exists() else b""
        path.write_bytes(data.draw(st.binary(max_size=99)) + content[data.draw(st.integers(0, 80)) :])
        tried(lambda: load_training_state(path))


@many
@given(
    values=st.dictionaries(
        st.sampled_from([*vars(TrainingConfig()), *vars(ModelConfig())]) | st.text(), junk, max_size=3
    )
)
def test_settings_of_any_kind_hold_or_are_refused(values):
    for kind in (ModelConfig, TrainingConfig):
        known = {name: value for name, value in values.items() if name in vars(kind())}
        for chosen in (values, known):
            made = tried(lambda kind=kind, chosen=chosen: kind.from_dict(chosen))
            if made is not None:
                assert kind.from_dict(json.loads(json.dumps(made.to_dict()))) == made
        texts = [f"{name}={value}" for name, value in known.items()]
        tried(lambda kind=kind, texts=texts: kind().with_texts(texts))


@many
@given(lines=st.lists(st.text(max_size=12), max_size=6), raw=st.binary(max_size=60), tail=junk)
def test_text_files_of_any_content_are_read_or_refused(lines, raw, tail):
    study = 'name = "s"\ntitle = "t"\nquestion = "q"\n'
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "study.toml"
        for content in ((study + "\n".join(lines)).encode("utf-8", "surrogatepass"), raw):
            path.write_bytes(content)
            tried(lambda: load_study(str(path)))
    text = json.dumps({"dataset": "d", "fold": 0, "n_shot": 1, "seed": 0, "episodes": tail})
    for reader in (EpisodeList.from_json, lambda text: EpisodeScores.from_dict(json.loads(text))):
        tried(lambda reader=reader: reader(text))


@many
@given(data=st.data())
def test_folders_of_any_content_are_read_or_refused(data):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("images", "masks"):
            (root / folder).mkdir()
        (root / "classes.txt").write_bytes(data.draw(st.sampled_from([b"a\nb", b"a\nb\nc\n"]) | st.binary(max_size=20)))
        for number in range(data.draw(st.integers(0, 4))):
            suffix = data.draw(st.sampled_from([".png", ".PNG", ".bmp", ".jfif", ".txt", ""]))
            image = Image.fromarray(data.draw(arrays(np.uint8, (6, 6, 3))))
            labels = data.draw(
                arrays(np.uint8, (6, 6), elements=st.sampled_from([0, 1, 2, 3, 255]))
                | arrays(np.uint8, data.draw(array_shapes(min_dims=2, max_dims=2, max_side=7)))
            )
            image.save(root / f"images/{number}{suffix}", format="PNG")
            if data.draw(st.integers(0, 5)):
                Image.fromarray(labels).save(root / f"masks/{number}.png")
        dataset = tried(lambda: FolderDataset(root))
        if dataset is not None:
            assert len(dataset.fingerprint) == 64
            if tried(lambda: dataset.class_areas) is not None:
                tried(lambda: draw_episodes(dataset, (0,), fold=0, n_shot=1, count=3, seed=0))
            for index in range(len(dataset)):
                tried(lambda index=index: dataset[index])


@many
@given(data=st.data())
def test_image_files_of_any_bytes_are_read_or_refused(data):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"x{data.draw(st.sampled_from(['.png', '.jpg', '.tif', '.webp']))}"
        mode = data.draw(st.sampled_from(["RGB", "L", "P", "1", "RGBA", "LA", "I;16"]))
        kind = "PNG" if path.suffix != ".tif" else "TIFF"
        Image.fromarray(data.draw(arrays(np.uint8, (9, 7)))).convert(mode).save(path, format=kind)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
        for reader in (read_image, read_mask):
            tried(lambda reader=reader: reader(path))


@many
@given(
    images=st.lists(pixels | any_array | junk, max_size=3) | junk,
    masks=st.lists(pixels | any_array | junk, max_size=3) | junk,
)
def test_the_predictor_takes_anything_or_refuses_it(images, masks):
    predictor = test_the_predictor_takes_anything_or_refuses_it.predictor
    if tried(lambda: predictor.set_support(images, masks)) is not None:
        for image in images if isinstance(images, list) else []:
            assert tried(lambda image=image: predictor.predict(image)) is not None


def _small_predictor() -> Predictor:
    backbone = build_backbone("tiny")
    return Predictor(DPNet(ModelConfig(channels=4), backbone.out_channels, backbone.deep_channels), backbone, size=32)


test_the_predictor_takes_anything_or_refuses_it.predictor = _small_predictor()
