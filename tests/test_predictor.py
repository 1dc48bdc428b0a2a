"""Predicting on one's own images: every kind of input, sizes, several classes, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dpnet_lite.config import ModelConfig
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.heads import load_head, save_head, shipped_head
from dpnet_lite.model.backbone import build_backbone
from dpnet_lite.model.dpnet import DPNet, Head
from dpnet_lite.predictor import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    backbone = build_backbone("tiny", "random")
    return Predictor(Head(ModelConfig(channels=8), 144, 96), backbone, size=64)


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    mask = np.zeros((50, 70), dtype=np.uint8)
    mask[10:40, 20:50] = 1
    return {
        "support": rng.integers(0, 256, (50, 70, 3), dtype=np.uint8),
        "mask": mask,
        "query": rng.integers(0, 256, (83, 41, 3), dtype=np.uint8),
    }


def test_paths_arrays_tensors_and_pil_images_give_the_same(predictor, pictures, tmp_path):
    for name, array in pictures.items():
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    inputs = {
        "array": pictures,
        "path": {name: tmp_path / f"{name}.png" for name in pictures},
        "pil": {name: Image.fromarray(array) for name, array in pictures.items()},
        "tensor": {
            name: torch.from_numpy(array if array.ndim == 2 else array.transpose(2, 0, 1).copy())
            for name, array in pictures.items()
        },
    }
    results = []
    for kind in inputs.values():
        predictor.set_support([kind["support"]], [kind["mask"]])
        results.append(predictor.predict(kind["query"]).probabilities)
    assert results[0].shape == (2, 83, 41)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_mask_and_probabilities(predictor, pictures):
    predictor.set_support([pictures["support"]] * 2, [pictures["mask"]] * 2)
    result = predictor.predict(pictures["query"], trace=True)
    assert result.mask.dtype == np.uint8 and result.mask.shape == (83, 41)
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(result.mask, result.probabilities.argmax(axis=0))
    assert result.traces[0].support.shape[1] == 2


def test_one_class_equals_the_whole_network(predictor):
    world = ToyWorld(2, seed=0, size=64)
    support, query = world[0], world[1]
    mask = (support.labels == world.targets[0] + 1).numpy()
    predictor.set_support([support.image], [mask])
    network = DPNet(ModelConfig(channels=8), predictor.backbone).eval()
    network.head.load_state_dict(predictor.head.state_dict())
    from dpnet_lite.datasets.transforms import normalise

    with torch.no_grad():
        logits = network(
            normalise(support.image)[None, None],
            torch.from_numpy(mask)[None, None].float(),
            normalise(query.image)[None],
        ).logits[0]
    probabilities = predictor.predict(query.image).probabilities
    np.testing.assert_allclose(probabilities, logits.softmax(dim=0).numpy(), atol=1e-5)


def test_several_classes_are_one_pass_each(predictor, pictures):
    other = np.roll(pictures["mask"], 15, axis=1)
    images = {"cat": [pictures["support"]], "dog": [pictures["support"]]}
    predictor.set_support(images, {"cat": [pictures["mask"]], "dog": [other]})
    both = predictor.predict(pictures["query"])
    assert both.class_names == ("cat", "dog") and both.probabilities.shape[0] == 3
    singles = []
    for mask in (pictures["mask"], other):
        predictor.set_support([pictures["support"]], [mask])
        singles.append(np.log(predictor.predict(pictures["query"]).probabilities.astype(np.float64)))
    # Logits up to a constant a pixel: a class's foreground less its own background is that of its single pass.
    logs = np.log(both.probabilities.astype(np.float64))
    margin = (singles[0][1] - singles[0][0]) - (singles[1][1] - singles[1][0])
    assert margin.shape == logs[1].shape
    np.testing.assert_array_equal(both.mask, both.probabilities.argmax(axis=0))


def test_the_support_is_encoded_once(predictor, pictures, monkeypatch):
    calls = []
    original = predictor.backbone.forward
    monkeypatch.setattr(predictor.backbone, "forward", lambda images: calls.append(len(images)) or original(images))
    predictor.set_support([pictures["support"]] * 3, [pictures["mask"]] * 3)
    assert sum(calls) == 3
    for _ in range(2):
        predictor.predict(pictures["query"])
    assert sum(calls) == 5


def test_errors_name_the_value_and_the_remedy(predictor, pictures):
    with pytest.raises(ValueError, match="2 images and 1 masks"):
        predictor.set_support([pictures["support"]] * 2, [pictures["mask"]])
    with pytest.raises(ValueError, match="is empty; mark the object"):
        predictor.set_support([pictures["support"]], [np.zeros_like(pictures["mask"])])
    with pytest.raises(ValueError, match=r"\[50, 69\], its image \[50, 70\]"):
        predictor.set_support([pictures["support"]], [pictures["mask"][:, :-1]])
    with pytest.raises(ValueError, match="float32; give uint8"):
        predictor.set_support([pictures["support"].astype(np.float32)], [pictures["mask"]])
    fresh = Predictor(predictor.head, predictor.backbone, size=64)
    with pytest.raises(ValueError, match="call set_support"):
        fresh.predict(pictures["query"])


def test_a_head_comes_back_from_its_file_alone(predictor, tmp_path):
    path = save_head(tmp_path / "head.safetensors", predictor.head, predictor.backbone, size=64, fold=1)
    head, metadata = load_head(path)
    assert metadata["fold"] == 1 and head.config == predictor.head.config
    for name, tensor in predictor.head.state_dict().items():
        assert torch.equal(head.state_dict()[name], tensor)
    half = save_head(tmp_path / "half.safetensors", predictor.head, predictor.backbone, size=64, half=True)
    assert half.stat().st_size < 0.7 * path.stat().st_size
    for name, tensor in load_head(half)[0].state_dict().items():
        assert torch.equal(tensor, predictor.head.state_dict()[name].half().float())


def test_a_head_is_refused_on_another_backbone(predictor, tmp_path):
    path = save_head(tmp_path / "head.safetensors", predictor.head, predictor.backbone, size=64)
    with pytest.raises(ValueError, match="trained on other tiny weights"):
        Predictor.load(path)  # the shipped tiny backbone, not the random one
    with pytest.raises(ValueError, match="not a DPNet head"):
        load_head(shipped_head(0).with_name("tiny_backbone.safetensors"))


@pytest.mark.parametrize("fold", range(4))
def test_the_shipped_heads_segment_novel_classes(fold):
    """Better than marking everything, on a handful of scenes."""
    path = shipped_head(fold)
    assert path.stat().st_size <= 2_000_000
    predictor = Predictor.load(path)
    world = ToyWorld(20, seed=31, targets=[fold + 4 * k for k in range(10)], others=range(80))
    inside = union = 0
    for number in range(10):
        support, query, value = world[number], world[number + 10], world.targets[number] + 1
        predictor.set_support([support.image], [support.labels == value])
        mask, truth = predictor.predict(query.image).mask == 1, (query.labels == value).numpy()
        inside, union = inside + (mask & truth).sum(), union + (mask | truth).sum()
    assert inside / union > 0.3
