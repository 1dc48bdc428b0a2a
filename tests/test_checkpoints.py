"""Checkpoints and training states: exact round trips, and every kind of damage refused in one clear line."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import platform
import random
import resource
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from core_fixtures import Malicious, assert_same, plain_weights, random_batch
from safetensors.torch import save_file
from torch import Tensor

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.checkpoints import (
    load_checkpoint,
    load_head,
    load_trained,
    save_checkpoint,
    save_head,
    shipped_head,
    versions,
)
from dpnet_lite.config import ModelConfig
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.storage.files import check_tensors, digest_tensors, load_tensors, write_atomically
from dpnet_lite.storage.run_folder import RunFolder, load_training_state, save_training_state

METADATA = {"step": 7, "score": 0.1 + 0.2, "config": {"widths": [8, 4], "name": "tiny"}, "fold": None}


def example_tensors() -> dict[str, Tensor]:
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    return {
        "plain": base,
        "transposed": base.T,  # not contiguous, and shares its memory with "plain"
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "mask": base > 0,
    }


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x04
    path.write_bytes(bytes(data))


def test_round_trip(tmp_path: Path, meta_is_here: None) -> None:
    path = save_checkpoint(tmp_path / "new" / "head.safetensors", example_tensors(), METADATA)
    tensors, metadata = load_checkpoint(path)
    assert_same(example_tensors(), tensors)
    assert metadata == METADATA
    sidecar = json.loads(text := (tmp_path / "new" / "head.json").read_text())
    assert text == json.dumps(sidecar, indent=2) + "\n"  # for people
    assert {tensor.device.type for tensor in load_checkpoint(path, "meta")[0].values()} == {"meta"}
    assert sidecar["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sidecar["format"] == 1 and METADATA.items() <= sidecar.items()
    assert sorted(file.name for file in path.parent.iterdir()) == ["head.json", "head.safetensors"]


def test_any_damage_to_the_weights_is_refused(tmp_path: Path) -> None:
    tensors = {"weight": torch.arange(12.0).reshape(3, 4)}
    path = save_checkpoint(tmp_path / "head.safetensors", tensors, METADATA)
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for position in range(end):
        flip(path, position)
        try:
            loaded, metadata = load_checkpoint(path)
        except ValueError as error:
            assert "head.safetensors" in str(error) and "\n" not in str(error)
        else:  # only blanks that pad the header to a multiple of 8 may change without a change of content
            assert whole[position : position + 1] == b" "
            assert_same(loaded, tensors)
            assert metadata == METADATA
        path.write_bytes(whole)
    for length in (0, 4, 8, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"head\.safetensors is not a whole safetensors file"):
            load_checkpoint(path)


def test_the_weight_file_is_enough_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_checkpoint(tmp_path / "none.safetensors")
    path = save_checkpoint(tmp_path / "head.safetensors", example_tensors(), METADATA)
    path.with_suffix(".json").unlink()
    assert load_checkpoint(path)[1] == METADATA
    later = json.dumps({"format": 99, "metadata": {}, "tensors_sha256": ""})
    for message, record in (
        ("has format 99, this version reads 1: update", later),
        (r"is damaged: restore it or train again \(metadata is None\)", '{"format": 1}'),
        *((r"is damaged: restore it or train again \(format is None\)", text) for text in ("[" * 100_000, "{")),
        ("no DPNet Lite checkpoint", None),
    ):
        header = {"record": record, "record_sha256": hashlib.sha256(record.encode()).hexdigest()} if record else {}
        save_file({"weight": torch.zeros(2)}, path, header)
        with pytest.raises(ValueError, match=rf"head\.safetensors .*{message}"):
            load_checkpoint(path)
    with pytest.raises(ValueError, match=r"does not end in \.safetensors; give a checkpoint of this project"):
        load_checkpoint(path.rename(tmp_path / "head.pth"))


def test_the_same_weights_give_the_same_file(tmp_path: Path) -> None:
    """safetensors writes several keys of its metadata in any order."""
    files = [save_checkpoint(tmp_path / f"{n}.safetensors", example_tensors(), METADATA) for n in range(8)]
    assert len({file.read_bytes() for file in files}) == 1


def test_the_prefix_of_several_gpus_is_taken_off(tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2), "module.b": torch.ones(3)}
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": prefixed}, tmp_path / "a.pth")
    save_file(prefixed, tmp_path / "b.safetensors")
    save_checkpoint(tmp_path / "c.safetensors", prefixed, {})
    for name in ("a.pth", "b.safetensors", "c.safetensors"):
        assert_same(load_tensors(tmp_path / name), state)
    assert_same(load_checkpoint(tmp_path / "c.safetensors")[0], state)
    torch.save(state, tmp_path / "a.pth")
    assert_same(load_tensors(tmp_path / "a.pth"), state)  # not all names have it


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    tensors = {"good": torch.ones(2), "bad": torch.tensor([1.0, value])}
    path = tmp_path / "head.safetensors"
    path.write_bytes(safetensors.torch.save(tensors))
    for call in (
        load_checkpoint,
        lambda path: save_checkpoint(path, tensors, METADATA),
    ):
        with pytest.raises(ValueError, match=r"head\.safetensors: bad holds NaN or infinity; get these weights again"):
            call(path)
    backbone = plain_weights("tiny")
    backbone["stage1.0.conv1.weight"][0, 0, 0, 0] = value
    torch.save(backbone, tmp_path / "tiny.pth")
    with pytest.raises(ValueError, match=r"tiny\.pth: stage1\.0\.conv1\.weight holds NaN or infinity; get these"):
        build_backbone("tiny", tmp_path / "tiny.pth")


def test_bad_arguments_to_save(tmp_path: Path) -> None:
    dense = torch.eye(2)
    for odd, told in (
        ({"__metadata__": dense}, "deserializing"),
        ({"a": dense.to_sparse()}, "memory format"),
        ({"a": dense.to("meta")}, "no data"),
        ({"a": dense.numpy()}, "detach"),
    ):
        with pytest.raises(ValueError, match=rf"^tensors for .* cannot be saved \(.*{told}.*\); give dense"):
            save_checkpoint(tmp_path / "head.safetensors", odd, {})
    with pytest.raises(ValueError, match=r"^sparse\.pth: a is sparse; save these weights as dense tensors$"):
        check_tensors({"a": dense.to_sparse()}, Path("sparse.pth"))
    assert not (tmp_path / "head.safetensors").exists()
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save_checkpoint(tmp_path / "head.pth", {}, {})
    for key in ("format", "sha256"):
        with pytest.raises(ValueError, match=rf"^metadata must not use the key '{key}', which the sidecar adds$"):
            save_checkpoint(tmp_path / "head.safetensors", {}, {key: "x"})
    for value in (float("nan"), {1, 2}):
        with pytest.raises(ValueError, match="JSON"):
            save_checkpoint(tmp_path / "head.safetensors", {}, {"score": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("crash_at", [0, 1])
def test_a_crash_while_saving_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    old, new = {"weight": torch.zeros(3)}, {"weight": torch.ones(3)}
    path = save_checkpoint(tmp_path / "head.safetensors", old, {"step": 1})
    renames = []
    real_replace = os.replace

    def crashing_replace(source: Path, target: Path) -> None:
        renames.append(target.name)
        if len(renames) == crash_at + 1:
            raise OSError("power cut")
        real_replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crashing_replace)
        with pytest.raises(OSError, match="power cut"):
            save_checkpoint(path, new, {"step": 2})
    tensors, metadata = load_checkpoint(path)
    # Before the first rename all is old; between the two, weights and metadata are both new.
    assert_same(tensors, old if crash_at == 0 else new)
    assert metadata == {"step": 1 + crash_at}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["head.json", "head.safetensors"]


def training_state() -> dict[str, Any]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch_random": torch.get_rng_state(),
        "python_random": random.getstate(),
        "big": 2**127 + 1,  # NumPy's PCG64 state holds such integers
        "tiny": 5e-324,
        "none": None,
    }


def test_training_state_round_trip_is_exact(tmp_path: Path) -> None:
    state = training_state()
    loaded = load_training_state(save_training_state(tmp_path / "last.state", state))
    assert_same(state["model"], loaded["model"])
    for key, moments in state["optimizer"]["state"].items():
        assert_same(moments, loaded["optimizer"]["state"][key])
    assert torch.equal(loaded["torch_random"], state["torch_random"])
    for key in ("python_random", "big", "tiny", "none"):
        assert loaded[key] == state[key], key
    assert loaded["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]


def test_any_damage_to_a_training_state_is_refused(tmp_path: Path) -> None:
    path = save_training_state(tmp_path / "last.state", {"step": 3, "weight": torch.ones(4)})
    whole = path.read_bytes()
    for position in [*range(95), *range(95, len(whole), 9)]:  # the whole header, then samples
        flip(path, position)
        with pytest.raises(ValueError, match=r"last\.state is not a whole training state"):
            load_training_state(path)
        path.write_bytes(whole)
    for length in (0, 10, 60, 93, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"last\.state is not a whole training state"):
            load_training_state(path)
    with pytest.raises(FileNotFoundError, match=r"none\.state"):
        load_training_state(tmp_path / "none.state")


def test_a_state_whose_parts_are_missing_or_of_another_kind_is_told(tmp_path: Path) -> None:
    identity = {"training": {"steps": 4}}
    whole: dict[str, Any] = {"step": 2, "losses": [{"step": 1}], "validation": [], "identity": identity}
    changes: list[dict[str, Any]] = [*({name: "x"} for name in whole), {"losses": [3]}, {"identity": {}}]
    changes += [{"step": step} for step in (-1, 5, 2.0)]
    for state in [[], {**whole, "step": None}, *(whole | change for change in changes)]:
        save_training_state(tmp_path / "state.bin", state)
        for read in (RunFolder(tmp_path).refuse_stopped_run, lambda: RunFolder(tmp_path).restore({})):
            with pytest.raises(ValueError, match=rf"^{tmp_path} holds no whole state: delete it to start anew .*\)$"):
                read()
    save_training_state(tmp_path / "state.bin", whole)
    assert RunFolder(tmp_path).restore(identity) == whole


def test_a_hostile_state_is_told_and_not_run(tmp_path: Path) -> None:
    payload = io.BytesIO()
    torch.save({"step": Malicious(tmp_path / "ran")}, payload)
    digest = hashlib.sha256(payload.getvalue()).hexdigest().encode()
    (tmp_path / "state.bin").write_bytes(b"dpnet-lite training state 1\n" + digest + b"\n" + payload.getvalue())
    with pytest.raises(ValueError, match=r"state\.bin holds other things than tensors .* never run: delete it"):
        load_training_state(tmp_path / "state.bin")
    assert not (tmp_path / "ran").exists()


def test_training_state_that_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    for value in (Path("x"), lambda: None, Malicious(tmp_path / "ran")):
        with pytest.raises(ValueError, match="more than tensors and plain Python values") as caught:
            save_training_state(tmp_path / "last.state", {"value": value})
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "evil.pth"
    content = {"weight": torch.zeros(1), "extra": Malicious(tmp_path / "ran")}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    for read in (load_tensors, lambda path: build_backbone("resnet50_v2", path)):
        with pytest.raises(ValueError, match=r"evil\.pth cannot be read as plain tensors") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False) if writer == "torch" else pickle.loads(path.read_bytes())
    assert (tmp_path / "ran").exists()  # so the file really was malicious


def test_load_tensors(tmp_path: Path) -> None:
    state = {"weight": torch.randn(2, 3), "steps": torch.tensor(4)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "c.pt")
    torch.save(state, tmp_path / "d.pth", _use_new_zipfile_serialization=False)  # as torchvision's VGG-16
    for name in ("a.safetensors", "b.pth", "c.pt", "d.pth"):
        assert_same(state, load_tensors(tmp_path / name))
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": 1}, tmp_path / "numbers.pth")
    for name in ("list.pth", "numbers.pth"):
        with pytest.raises(ValueError, match="does not hold a state dict"):
            load_tensors(tmp_path / name)
    (tmp_path / "b.pth").write_bytes((tmp_path / "b.pth").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"b\.pth cannot be read"):
        load_tensors(tmp_path / "b.pth")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"suffix '\.txt' is not read"):
        load_tensors(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path)


def test_digest_depends_on_content_alone() -> None:
    tensors = example_tensors()
    shuffled = dict(reversed(tensors.items()))
    shuffled["transposed"] = tensors["transposed"].contiguous()
    assert digest_tensors(shuffled) == digest_tensors(tensors)
    changes = {"plain": -tensors["plain"], "scalar": torch.tensor(3.0), "empty": torch.zeros(2, 0)}
    for key, value in changes.items():
        assert digest_tensors({**tensors, key: value}) != digest_tensors(tensors), key
    assert digest_tensors({**tensors, "new": tensors["plain"]}) != digest_tensors(tensors)


def test_versions() -> None:
    assert versions().keys() == {"python", "torch", "torchvision", "dpnet_lite"}
    assert versions()["torch"] == torch.__version__


# Trained networks

MODEL = ModelConfig(channels=8)


@pytest.fixture(scope="module")
def trained() -> tuple[DPNet, Any]:
    """A network that was not trained, and a backbone of random weights."""
    torch.manual_seed(0)
    return DPNet(MODEL, 144, 96).eval(), build_backbone("tiny", "random")


@pytest.fixture
def head_file(trained: tuple[DPNet, Any], tmp_path: Path) -> Path:
    return save_head(tmp_path / "head.safetensors", *trained, size=64, fold=1)


def test_a_head_comes_back_from_its_file_alone(trained: tuple[DPNet, Any], head_file: Path) -> None:
    network, backbone = trained
    head, metadata = load_head(head_file)
    assert metadata["fold"] == 1 and metadata["versions"] == versions() and not head.training
    assert head.config == network.config and metadata["model"].keys() == MODEL.to_dict().keys()
    assert_same(network.state_dict(), head.state_dict())
    half = save_head(head_file.with_name("half.safetensors"), network, backbone, size=64, half=True)
    assert half.stat().st_size < 0.7 * head_file.stat().st_size
    rounded = {name: tensor.half() for name, tensor in network.state_dict().items()}
    assert_same(load_checkpoint(half)[0], rounded)
    assert_same(load_head(half)[0].state_dict(), {name: tensor.float() for name, tensor in rounded.items()})


def test_a_trained_network_comes_back_with_its_backbone(tmp_path: Path) -> None:
    """With the shipped backbone nothing else is named; settings that are not the defaults come back too."""
    torch.manual_seed(3)
    model = ModelConfig(channels=12, selection="top_k", interaction="correlation", scales=(1.0, 0.5), prior=True)
    network, backbone = DPNet(model, 144, 96).eval(), build_backbone("tiny", precision="bf16")
    again = load_trained(save_head(tmp_path / "head.safetensors", network, backbone, size=48, seed=4))
    assert again.head.config == model and again.size == 48 and again.metadata["seed"] == 4
    assert again.backbone.cache_key == backbone.cache_key
    batch = random_batch(2, channels=144, cells=(6, 6))
    assert torch.equal(again.head(batch, (9, 9)).logits, network(batch, (9, 9)).logits)


def test_backbone_weights_of_ones_own_are_named_and_checked(
    trained: tuple[DPNet, Any], head_file: Path, meta_is_here: None
) -> None:
    own, other = head_file.with_name("own.pth"), head_file.with_name("other.pth")
    torch.save(plain_weights("tiny"), own)
    torch.save(plain_weights("tiny", seed=1), other)
    assert load_trained(head_file, backbone_weights=own).backbone.fingerprint == trained[1].fingerprint
    elsewhere = load_trained(head_file, backbone_weights=own, device=torch.device("meta"))
    assert {w.device.type for net in (elsewhere.head, elsewhere.backbone) for w in net.parameters()} == {"meta"}
    for weights in (other, None):  # None: the shipped ones
        with pytest.raises(ValueError) as caught:
            load_trained(head_file, backbone_weights=weights)
        assert str(caught.value) == (
            f"{head_file} was trained on other tiny weights than those given; "
            "name the same file with backbone_weights (--backbone-weights)"
        )
    with pytest.raises(FileNotFoundError, match=r"missing\.pth"):
        load_trained(head_file, backbone_weights=head_file.with_name("missing.pth"))


def test_only_heads_of_known_networks_are_read(trained: tuple[DPNet, Any], tmp_path: Path) -> None:
    for facts, found in (({"what": "a list"}, "a list"), ({}, "something")):
        path = save_checkpoint(tmp_path / "other.safetensors", {}, facts)
        with pytest.raises(ValueError, match=rf"^{path} holds '{found}', not a DPNet head; give a head's file$"):
            load_head(path)
    rival = DPNet(ModelConfig(channels=8, network="rival"), 144, 96)
    path = save_head(tmp_path / "rival.safetensors", rival, trained[1], size=64)
    with pytest.raises(ValueError, match=r"rival\.safetensors holds the network 'rival'; what is known here: a, b$"):
        load_head(path, networks={"a": DPNet, "b": DPNet})
    again = load_trained(path, backbone_weights="random", networks={"rival": DPNet}).head
    assert_same(again.state_dict(), rival.state_dict())


@pytest.mark.parametrize(("name", "value", "is_read"), [("n_parts", 4, True), ("shot_fusion", "joint", False)])
def test_a_head_that_names_a_retired_setting_is_read_at_its_last_value(
    trained: tuple[DPNet, Any], head_file: Path, name: str, value: object, is_read: bool
) -> None:
    tensors, metadata = load_checkpoint(head_file)
    metadata["model"][name] = value
    save_checkpoint(head_file, tensors, metadata)
    if is_read:
        assert_same(load_head(head_file)[0].state_dict(), trained[0].state_dict())
    else:
        with pytest.raises(ValueError, match="shot_fusion is 'joint': that was retired, only 'average' is left"):
            load_head(head_file)


def test_a_head_whose_facts_are_missing_or_of_another_kind_is_told(head_file: Path) -> None:
    tensors, metadata = load_checkpoint(head_file)
    other = MODEL.to_dict() | {"channels": 16}
    for name, value, told in (
        ("model", None, "model is None"),
        ("model", {"channels": "8"}, "channels is '8'.*"),
        ("model", other, r"size mismatch for reduce\.0\.weight: [^\n]*\."),
        ("backbone", "alexnet", "backbone is 'alexnet'"),
        ("precision", "fp64", "precision is 'fp64'"),
        *(("size", size, rf"size is {size}") for size in (0, 64.0, True, None)),
        ("base_classes", ["cat", 1], "a base class is 1"),
        ("fold", "1", "fold is '1'"),
    ):
        save_checkpoint(head_file, tensors, metadata | {name: value})
        with pytest.raises(ValueError, match=rf"^{head_file} is no whole head for this .* again \({told}\)$"):
            load_trained(head_file, backbone_weights="random")
    save_checkpoint(head_file, tensors, metadata | {"model": MODEL.to_dict() | {"channels": 4096}})  # 7 GB as a network
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"size mismatch for reduce"):
        load_head(head_file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10**6  # kB, on Linux
    save_checkpoint(head_file, tensors, metadata | {"fold": None})
    head, facts = load_head(head_file)
    assert facts["fold"] is None  # trained on all classes
    size = {"size": 64}
    for odd in (size | {"base_classes": [0, 1]}, {"size": 96.0}, size | {"model": "v2"}, size | {"fold": "0"}):
        with pytest.raises(ValueError, match=r"x\.safetensors could not be read again: give other facts \(.* is "):
            save_head(head_file.with_name("x.safetensors"), head, build_backbone("tiny", "random"), **odd)
    assert not head_file.with_name("x.safetensors").exists()
    with pytest.raises(ValueError, match=r"^the head takes 144 channels, mobilenet_v2 gives \d+; give its own$"):
        save_head(head_file, head, build_backbone("mobilenet_v2", "random"), size=64)
    named = save_head(
        head_file.with_name("x.safetensors"), head, build_backbone("tiny", "random"), base_classes=("a",), **size
    )
    assert load_head(named)[1]["base_classes"] == ["a"]  # JSON has no tuples
    compiled = torch.nn.Module()  # as torch.compile wraps a network
    compiled._orig_mod, compiled.config = head, head.config
    path = save_head(head_file.with_name("x.safetensors"), compiled, build_backbone("tiny", "random"), **size)
    assert torch.equal(next(load_head(path)[0].parameters()), next(head.parameters()))


# Writing


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, r"No space left on device; [\d,]+ bytes are needed"), (errno.EROFS, "Read-only file system")],
)
def test_what_the_system_refuses_is_told_and_the_last_file_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    path = save_checkpoint(tmp_path / "head.safetensors", {"weight": torch.zeros(3)}, {"step": 1})
    state = save_training_state(tmp_path / "state.bin", {"step": 1})

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    for write, name in (
        (lambda: save_checkpoint(path, {"weight": torch.ones(3)}, {"step": 2}), "head.safetensors"),
        (lambda: save_training_state(state, {"step": 2}), "state.bin"),
    ):
        with pytest.raises(OSError, match=rf"{name} cannot be written \({words}\): .* --out$"):
            write()
    assert load_checkpoint(path)[1] == load_training_state(state) == {"step": 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["head.json", "head.safetensors", "state.bin"]


def test_only_regular_files_in_folders_are_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("kept")
    for path in (Path(os.devnull), tmp_path / "folder", tmp_path / "pipe"):
        with pytest.raises(
            OSError, match=rf"{path} is no regular file, but a folder or a device; name a file with --x"
        ):
            write_atomically(path, b"new", option="--x")
    with pytest.raises(OSError, match=r"file/new cannot be written \([A-Z][a-z ]+\): .* with --out$"):
        write_atomically(tmp_path / "file" / "new", b"new")
    assert Path(os.devnull).is_char_device() and (tmp_path / "file").read_text() == "kept"


def test_long_names_and_links_are_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("\u304b" * 85), b"255 bytes are a name's most")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    for content in (b"new", b"newer"):  # to nothing, to a file
        write_atomically(tmp_path / "link", content)
        assert (tmp_path / "folder/file").read_bytes() == content and (tmp_path / "link").is_symlink()
    assert {file.name for file in tmp_path.iterdir()} == {"\u304b" * 85, "folder", "link"}


def test_what_killed_processes_left_over_is_cleared(tmp_path: Path) -> None:
    living, kept = f".a.{os.getpid()}.tmp", (".other.tmp", ".a.elsewhere-4194305.tmp")
    for name in (".a.4194305.tmp", f".b.c.{platform.node()}-4194305.tmp", living, *kept):  # above the largest number
        (tmp_path / name).write_text("half")
    write_atomically(tmp_path / "a", b"whole")
    assert {file.name for file in tmp_path.iterdir()} == {"a", living, *kept}


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_head_is_refused(head_file: Path, damage: str) -> None:
    if damage == "cut":
        head_file.write_bytes(head_file.read_bytes()[:-50])
    else:
        flip(head_file, head_file.stat().st_size - 50)
    with pytest.raises(ValueError, match=r"head.safetensors is (not a whole|damaged)"):
        load_trained(head_file)


@pytest.mark.parametrize("name", ["photographs", "toy", "photographs_one_scale", "toy_support_only", "toy_fold3"])
def test_shipped_weights_have_names(name: str) -> None:
    file = shipped_head(0).with_name(f"{'toy_fold0' if name == 'toy' else name}.safetensors")
    assert [shipped_head(n).stem for n in (0, 3, 4)] == ["toy_fold0", "toy_fold3", "4"]
    (tensors, metadata), (expected, own) = load_checkpoint(name), load_checkpoint(file)
    assert metadata == own and digest_tensors(tensors) == digest_tensors(expected)
    assert (metadata["backbone"] == "mobilenet_v2") == name.startswith("photographs")


def test_a_name_that_is_none_is_told_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"photographs_of_mine is no .* shipped weights; these are photographs, toy \.\.\.$"
    ):
        load_checkpoint("photographs_of_mine")
    for odd, told in ((None, "None is no file"), ("a" * 5_000, "a{99} is no file"), ("a" * 5_000 + ".b", "no file a")):
        with pytest.raises(FileNotFoundError, match=f"^{told}"):
            load_checkpoint(odd)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file toy\.safetensors: check"):
        load_checkpoint("toy.safetensors")
