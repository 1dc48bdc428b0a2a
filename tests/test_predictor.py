"""Predicting on one's own images: every kind of input, sizes, several classes."""

from __future__ import annotations

import io
import itertools
import re
from contextlib import nullcontext
from copy import deepcopy

import numpy as np
import pytest
import torch
from core_fixtures import block_means, plain_weights, slow_softmax
from PIL import Image

import dpnet_lite.predictor as predictor_module
from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.checkpoints import Trained, load_checkpoint, load_head, load_trained, save_head, shipped_head
from dpnet_lite.config import ModelConfig
from dpnet_lite.datasets.images import to_image, to_mask
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.datasets.transforms import normalise
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.model.episode_batch import EpisodeBatch, Output
from dpnet_lite.predictor import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    backbone = build_backbone("tiny", "random")
    return Predictor(DPNet(ModelConfig(channels=8), 144, 96), backbone, size=64)


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


def test_every_common_form_of_mask_and_image_is_read(predictor, pictures):
    """Arrays of PIL are read-only, slices have odd strides, stacks are one array or tensor."""
    image, mask, query = pictures["support"], pictures["mask"], pictures["query"]
    predictor.set_support([image], [mask])
    expected = predictor.predict(query).probabilities
    frozen = image.copy()
    frozen.setflags(write=False)
    images = [frozen, image[:, ::-1][:, ::-1], np.asfortranarray(image), np.asarray(Image.fromarray(image))]
    masks = [mask.astype(bool), mask * np.uint8(255), mask.astype(np.uint16), Image.fromarray(mask.astype(bool))]
    frozen_mask = np.asarray(Image.fromarray(mask))
    for one, other in [*zip(images, masks, strict=True), (image, frozen_mask), (image, torch.from_numpy(mask).bool())]:
        predictor.set_support([one], [other])
        np.testing.assert_array_equal(predictor.predict(query).probabilities, expected)
    predictor.set_support(image[None], mask[None])
    np.testing.assert_array_equal(predictor.predict(query).probabilities, expected)
    grey = query[:, :, 0]  # three equal channels
    colour = predictor.predict(np.stack([grey] * 3, axis=2)).probabilities
    np.testing.assert_array_equal(predictor.predict(grey).probabilities, colour)
    assert (image == pictures["support"]).all() and mask.max() == 1


def test_mask_and_probabilities(predictor, pictures):
    predictor.set_support([pictures["support"]] * 2, [pictures["mask"]] * 2)
    result = predictor.predict(pictures["query"], trace=True)
    assert result.mask.dtype == np.uint8 and result.mask.shape == (83, 41)
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(result.mask, result.probabilities.argmax(axis=0))
    assert result.traces[0].support.shape[1] == 2


def test_one_class_equals_the_network_on_features_of_the_images(predictor):
    world = ToyWorld(2, seed=0, size=64)
    support, query = (world[index] for index in range(2))
    mask = (support.labels == world.targets[0] + 1).numpy()
    predictor.set_support([support.image], [mask])
    features = [predictor.backbone(normalise(sample.image)[None]) for sample in (support, query)]
    shares = torch.from_numpy(block_means(mask, (16, 16))).float()[None, None]
    batch = EpisodeBatch(features[0][None], shares, 1 - shares, features[1], torch.zeros(1, 64, 64).long())
    with torch.no_grad():
        logits = predictor.head(batch, (64, 64)).logits[0]
    probabilities = predictor.predict(query.image).probabilities
    np.testing.assert_allclose(probabilities, logits.softmax(dim=0).numpy(), atol=1e-5)


@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_classes_and_background_compete(predictor, pictures, monkeypatch, n_classes):
    """Made-up binary logits of each class; a picture of 16 x 16 pixels has the size of the feature map."""
    rng = np.random.default_rng(2)
    passes = rng.normal(size=(n_classes, 2, 16, 16)).astype(np.float32)
    names = ["cat", "dog", "cow"][:n_classes]
    supports = {name: [pictures["support"]] * (1 + k) for k, name in enumerate(names)}
    predictor.set_support(supports, {name: [pictures["mask"]] * len(images) for name, images in supports.items()})
    shots, queue = [], iter(passes)

    def head(batch, size, support):
        shots.append(batch.support_features.shape[1])
        return Output(torch.from_numpy(next(queue))[None])

    monkeypatch.setattr(predictor.head, "forward", head)
    result = predictor.predict(pictures["query"][:16, :16])
    margins = passes[:, 1] - passes[:, 0]  # of each class against its own background
    expected = slow_softmax(np.concatenate([np.zeros((1, 16, 16)), margins]))
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(result.mask, expected.argmax(axis=0))
    assert set(np.unique(result.mask)) == set(range(n_classes + 1))
    assert result.class_names == tuple(names) and shots == list(range(1, n_classes + 1))


def test_a_class_that_is_not_there_does_not_weigh_on_another(predictor, pictures, monkeypatch):
    """One class moderately sure, the other one sure that it is absent: the first keeps its pixels."""
    passes = iter(
        [np.stack([-np.ones((16, 16)), np.ones((16, 16))]), np.stack([np.full((16, 16), z) for z in (9, -9)])]
    )
    names = ["here", "absent"]
    predictor.set_support({n: [pictures["support"]] for n in names}, {n: [pictures["mask"]] for n in names})
    monkeypatch.setattr(predictor.head, "forward", lambda *a, **b: Output(torch.from_numpy(next(passes))[None].float()))
    assert (predictor.predict(pictures["query"][:16, :16]).mask == 1).all()


def test_traces_come_one_a_class_and_only_on_request(predictor, pictures):
    one, two = [pictures["support"]], [pictures["support"]] * 2
    predictor.set_support({"cat": one, "dog": two}, {"cat": [pictures["mask"]], "dog": [pictures["mask"]] * 2})
    assert predictor.predict(pictures["query"]).traces == ()
    assert [trace.support.shape[1] for trace in predictor.predict(pictures["query"], trace=True).traces] == [1, 2]


def test_the_support_is_encoded_once(predictor, pictures, monkeypatch):
    calls = []
    original = predictor.backbone.forward
    monkeypatch.setattr(predictor.backbone, "forward", lambda images: calls.append(len(images)) or original(images))
    predictor.set_support([pictures["support"]] * 3, [pictures["mask"]] * 3)
    assert sum(calls) == 3
    for _ in range(2):
        predictor.predict(pictures["query"])
    assert sum(calls) == 5
    predictor.set_support({n: [pictures["support"]] for n in "ab"}, {n: [pictures["mask"]] for n in "ab"})
    predictor.predict(pictures["query"])
    assert sum(calls) == 5 + 2 + 1  # the query once, whatever the number of classes


def test_errors_name_the_value_and_the_remedy(predictor, pictures):
    image, mask = pictures["support"], pictures["mask"]
    two_classes = mask + np.eye(50, 70, dtype=np.uint8)
    for message, images, masks in (
        ("2 images and 1 masks", [image] * 2, [mask]),
        (r"^support mask 1 of foreground is empty; mark the object", [image], [np.zeros_like(mask)]),
        (r"^support mask 1 of foreground is \[50, 69\], its image \[50, 70\]", [image], [mask[:, :-1]]),
        ("float32; give uint8", [image.astype(np.float32)], [mask]),
        (r"^a str was given; .* a single image: set_support\(\[image\], \[mask\]\)$", "cat.jpg", "cat.png"),
        (r"^images and masks must both be lists .* or both mappings by class name$", {"cat": [image]}, [mask]),
        (r"mask 1 of foreground: mask holds 2 values above 0 \(1, 2\), so several classes", [image], [two_classes]),
        (r"images name \['cat'\], masks name \['dog'\]; name the same classes", {"cat": [image]}, {"dog": [mask]}),
        ("foreground has 0 images and 0 masks; give one mask per image", [], []),
        (r"support mask 2 of foreground: mask is \[50, 70, 3\]; give \[H, W\]", [image] * 2, [mask, image]),
        (r"image is \[2, 50, 70\]; give an array", [np.zeros((2, 50, 70), dtype=np.uint8)], [mask]),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            predictor.set_support(images, masks)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"nowhere.jpg is not a file; check the path"):
        predictor.set_support(["nowhere.jpg"], [mask])
    fresh = Predictor(predictor.head, predictor.backbone, size=64)
    with pytest.raises(ValueError, match=r"^no support is set; call set_support\(images, masks\) first$"):
        fresh.predict(pictures["query"])


@pytest.mark.parametrize("odd", [None, 7, b"bytes", "photo.jpg", {"a"}, io.BytesIO(), np.array(3)])
def test_odd_arguments_are_refused_in_one_line(predictor, pictures, odd):
    image, mask = pictures["support"], pictures["mask"]
    predictor.set_support([image], [mask])
    calls = [lambda: predictor.set_support(odd, [mask]), lambda: predictor.set_support([image], odd)]
    if not isinstance(odd, str):
        calls += [lambda: predictor.set_support([odd], [mask]), lambda: predictor.predict(odd)]
        calls += [lambda: predictor.set_support([image], [odd])]
    for call in calls:
        with pytest.raises(ValueError) as caught:
            call()
        assert "give" in str(caught.value) and "\n" not in str(caught.value)


def test_generators_are_listed_and_classes_fit_the_mask(predictor, pictures, monkeypatch):
    image, mask = pictures["support"], pictures["mask"]
    predictor.set_support((i for i in [image]), iter([mask]))
    for empty in (np.zeros((0, 0, 3), np.uint8), torch.zeros(3, 0, 5, dtype=torch.uint8), Image.new("RGB", (0, 0))):
        with pytest.raises(ValueError, match="give an array"):
            predictor.predict(empty)
    many = {str(number): [image] for number in range(256)}
    with pytest.raises(ValueError, match=r"images name 256 classes; 255 fit the numbers of the mask \(uint8\)$"):
        predictor.set_support(many, {name: [mask] for name in many})
    del many["255"]
    monkeypatch.setattr(predictor, "_encode", lambda name, images, masks: None)
    monkeypatch.setattr(predictor_module, "_Class", lambda head, batch: None)
    assert len(predictor.set_support(many, many)._support) == 255


def test_a_predictor_comes_back_from_a_checkpoint(predictor, pictures, tmp_path):
    path = save_head(tmp_path / "head.safetensors", predictor.head, predictor.backbone, size=64)
    own = tmp_path / "own.pth"
    torch.save(plain_weights("tiny"), own)
    again = Predictor.load(path, backbone_weights=own)
    results = [
        p.set_support([pictures["support"]], [pictures["mask"]]).predict(pictures["query"]) for p in (predictor, again)
    ]
    np.testing.assert_array_equal(results[0].probabilities, results[1].probabilities)
    with pytest.raises(ValueError, match=r"trained on other tiny weights.*--backbone-weights"):
        Predictor.load(path)  # the shipped tiny backbone, not the random one


def test_all_is_put_on_the_device_that_is_named(predictor, pictures, monkeypatch, meta_is_here):
    """On PyTorch's device without numbers, which knows no autocast."""
    whole, given = Trained(deepcopy(predictor.head), deepcopy(predictor.backbone), 64, {}), {}
    monkeypatch.setattr(predictor_module, "load_trained", lambda path, **options: given.update(options) or whole)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    elsewhere = Predictor.load("head.safetensors", device=torch.device("meta"))
    batch = elsewhere._encode("cat", [pictures["support"]], [pictures["mask"]])
    tensors = (*elsewhere.head.parameters(), *elsewhere.backbone.parameters(), *batch)
    assert given["device"] == torch.device("meta") and {tensor.device.type for tensor in tensors} == {"meta"}


def test_the_device_may_be_left_to_the_machine(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    found = Predictor.load("toy", device="auto")
    assert found.device.type == "cpu" and {weights.device.type for weights in found.head.parameters()} == {"cpu"}
    for odd in ("gpu", torch.device("meta"), torch.device("cpu:1"), None, 0, b"cpu"):
        told = re.escape(f"device is {odd!r}, but PyTorch finds cpu here; use --device cpu or auto")
        for call in (Predictor.load, load_head, load_checkpoint):
            with pytest.raises(ValueError, match=f"^{told}$"):
                call("toy", device=odd)


def test_odd_networks_sizes_and_weights_are_refused(predictor):
    head, backbone = predictor.head, predictor.backbone
    for odd in (64.0, "64", None, True, 0, 10**5):
        with pytest.raises(
            ValueError, match=f"^size is {odd!r}; give the side of the square in pixels, a whole number"
        ):
            Predictor(head, backbone, size=odd)
    assert Predictor(head, backbone, size=np.int64(64)).size == 64
    for pair, kinds in (((None, backbone), "a NoneType and a Backbone"), ((head, head), "a DPNet and a DPNet")):
        with pytest.raises(ValueError, match=f"^head and backbone are {kinds}; give networks, or use Predictor.load$"):
            Predictor(*pair, size=64)
    for odd, name in (("", "''"), (b"x", "b'x'"), (3, "3")):
        with pytest.raises(FileNotFoundError, match=f"^no file {name}: check the path$"):
            Predictor.load("toy", backbone_weights=odd)


def test_a_network_of_no_numbers_is_refused_and_mixed_precision_taken(predictor, pictures):
    head = deepcopy(predictor.head)
    own = Predictor(head, predictor.backbone, size=64).set_support([pictures["support"]], [pictures["mask"]])
    with torch.autocast("cpu", torch.bfloat16):
        assert own.predict(pictures["query"]).probabilities.dtype == np.float32
    with pytest.warns(
        UserWarning, match=r"^support mask 1 of foreground covers its whole image, so that no background"
    ):
        Predictor(head, predictor.backbone, size=64).set_support([pictures["support"]], [0 * pictures["mask"] + 1])
    usual = own.predict(pictures["query"]).probabilities
    head.train()  # as a loop of one's own may leave it
    with pytest.raises(ValueError, match=r"^the network is in training mode; call head\.eval\(\), then set_support$"):
        own.predict(pictures["query"])
    head.eval()
    assert (own.predict(pictures["query"]).probabilities == usual).all()
    torch.nn.init.constant_(next(head.parameters()), float("nan"))
    own.set_support([pictures["support"]], [pictures["mask"]])
    with pytest.raises(
        ValueError, match=r"^the network gives NaN or infinity for this image; load its checkpoint anew$"
    ):
        own.predict(pictures["query"])


def test_other_networks_are_handed_in(predictor, pictures, tmp_path):
    rival = DPNet(ModelConfig(channels=8, network="rival"), 144, 96)
    path = save_head(tmp_path / "rival.safetensors", rival, build_backbone("tiny"), size=64)
    with pytest.raises(ValueError, match="holds the network 'rival'"):
        Predictor.load(path)
    assert Predictor.load(path, networks={"rival": DPNet}).head.config.network == "rival"
    plain = torch.nn.Module()  # without parts, traces and settings
    plain.forward = lambda batch, cells, **options: Output(torch.zeros(1, 2, *cells))
    other = Predictor(plain, predictor.backbone, size=64).set_support([pictures["support"]], [pictures["mask"]])
    assert other.predict(pictures["query"], trace=True).traces == ()


@pytest.mark.parametrize("fold", range(4))
def test_the_shipped_heads_segment_novel_classes(fold):
    """Better than marking everything, on a handful of scenes."""
    path = shipped_head(fold)
    assert path.stat().st_size <= 2_000_000 and load_trained(path).metadata["fold"] == fold
    predictor = Predictor.load(path)
    world = ToyWorld(20, seed=31, targets=[fold + 4 * k for k in range(10)], others=range(80))
    inside = union = 0
    for number in range(10):
        support, query, value = world[number], world[number + 10], world.targets[number] + 1
        predictor.set_support([support.image], [support.labels == value])
        mask, truth = predictor.predict(query.image).mask == 1, (query.labels == value).numpy()
        inside, union = inside + (mask & truth).sum(), union + (mask | truth).sum()
    assert inside / union > 0.3


def test_a_photograph_opened_by_the_caller_is_turned_upright_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 10, 3)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        assert torch.equal(to_image(opened), to_image(tmp_path / "a.png")) and to_image(opened).shape == (3, 10, 20)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_images_without_a_number_in_each_place_are_refused(tmp_path):
    pixels = torch.zeros(3, 4, 5, dtype=torch.uint8)
    odds = [pixels.to("meta"), pixels.to_sparse(), np.ma.masked_array(pixels.numpy(), mask=True)]
    for odd in (*odds, torch.quantize_per_tensor(pixels.float(), 1, 0, torch.quint8)):
        with pytest.raises(
            ValueError, match=r"^mask is masked, sparse, .* or without data; give plain numbers in full$"
        ):
            to_mask(odd)
        with pytest.raises(ValueError, match=r"^image is (masked, sparse|torch\.quint8)"):
            to_image(odd)
    Image.new("RGB", (40, 50)).save(tmp_path / "whole.bmp")
    (tmp_path / "cut.bmp").write_bytes((tmp_path / "whole.bmp").read_bytes()[:900])
    with Image.open(tmp_path / "whole.bmp") as closed:
        pass
    with Image.open(tmp_path / "cut.bmp") as cut:
        for image, read in itertools.product((closed, cut), (to_image, to_mask)):
            with pytest.raises(ValueError, match=r"^the PIL image cannot be decoded \(.*\); open it again, or give"):
                read(image)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, Image.fromarray])
def test_a_mask_of_several_values_is_refused(kind):
    mask = np.zeros((4, 5), dtype=np.uint8)
    mask[1, 1:4] = (3, 7, 255)
    with pytest.raises(ValueError, match=r"mask holds 3 values above 0 \(3, 7, 255\).*give 0 and one other value"):
        to_mask(kind(mask))
    assert to_mask(kind((mask == 7).astype(np.uint8) * 9)).sum() == 1


def test_masks_of_other_numbers_are_refused_and_black_and_white_in_rgb_is_read(tmp_path):
    mask = np.float32([[0, 1], [0, np.nan]])
    half = torch.from_numpy(mask).bfloat16()
    odds = [
        (mask, "(ndarray) is float32"),
        (mask.astype(complex), "(ndarray) is complex128"),
        (half, "(Tensor) is bfloat16"),
        (half.float().to(torch.complex64).conj(), "(Tensor) is complex64"),
        (Image.fromarray(mask), "(Image) is float32"),
    ]
    for odd, what in odds:
        with pytest.raises(ValueError, match=re.escape(f"mask {what}; give integers or bools, as in mask")):
            to_mask(odd)
    with pytest.raises(ValueError, match=r"^mask holds -1; give 0 and one other value above 0$"):
        to_mask(np.array([[0, 1], [-1, 1]]))
    colours = np.zeros((4, 5, 3), dtype=np.uint8)
    colours[1, 1:3] = (255, 0, 40)
    Image.fromarray(colours).save(tmp_path / "mask.png")
    for one in (tmp_path / "mask.png", colours, Image.fromarray(colours)):
        with pytest.warns(UserWarning, match="mask in RGB, black and one colour, is read as the object in that colour"):
            assert torch.equal(to_mask(one), torch.from_numpy(colours[..., 0] > 0))
    colours[0, 0] = (255, 0, 41)
    with pytest.raises(ValueError, match=r"mask is \[4, 5, 3\]; give \[H, W\], or in RGB"):
        to_mask(colours)
