"""What only a GPU does: fused convolutions, recorded work, and the same answers as on a CPU."""

from __future__ import annotations

import pytest
import torch
from core_fixtures import plain_weights, random_batch

from dpnet_lite.backbones.backbone import ARCHITECTURES, build_backbone
from dpnet_lite.backbones.replay import Replay
from dpnet_lite.config import ModelConfig
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.scoring import head_segmenter

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "resnet101_v2"])
def test_fused_backbones_equal_plain_ones(name: str) -> None:
    torch.backends.cudnn.allow_tf32 = False
    plain = ARCHITECTURES[name].build().eval()
    plain.load_state_dict(plain_weights(name))
    images = torch.randn(3, 3, 97, 65)
    with torch.no_grad():
        found = plain(images)
    expected = found if isinstance(found, torch.Tensor) else torch.cat([found["middle"], found["deep"]], dim=1)
    backbone = build_backbone(name, "random", device="cuda")
    for count in (1, 2, 3, 1):  # few images are recorded and replayed
        features = backbone(images[:count].cuda()).cpu()
        assert (features - expected[:count]).norm() < 1e-4 * expected[:count].norm()


def test_recorded_work_follows_its_inputs_and_the_weights() -> None:
    head = DPNet(ModelConfig(channels=16), 12, 8).cuda().eval()
    segment = head_segmenter(head)
    batches = [random_batch(2, channels=12, cells=(9, 7)) for _ in range(3)]
    for batch in (*batches, random_batch(1, channels=12, cells=(5, 6))):
        with torch.no_grad():
            plain = head(batch.to("cuda"), batch.cells).logits.cpu()
            torch.testing.assert_close(segment(batch), plain)
    with torch.no_grad():
        before = segment(batches[0])
        for parameter in head.parameters():
            parameter.add_(0.05)
        assert not torch.allclose(segment(batches[0]), before)


def test_old_recordings_go_and_gradients_pass_by() -> None:
    weight = torch.ones(3, device="cuda", requires_grad=True)
    replay = Replay(lambda x: x * weight.sum(), torch.nn.Identity())
    with torch.no_grad():
        for length in (1, 2, 3, 4, 5, 6, 1):
            x = torch.arange(float(length), device="cuda")
            assert torch.equal(replay(x), 3 * x)
    assert len(replay.recorded) == 4
    replay(torch.ones(2, device="cuda")).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [2, 2, 2]


def test_a_gpu_answers_as_a_cpu_does() -> None:
    torch.manual_seed(0)
    for config in (ModelConfig(channels=16), ModelConfig(channels=16, selection_features="backbone", prior=True)):
        head = DPNet(config, 12, 8).eval()
        batch = random_batch(3, channels=12, cells=(9, 7))
        with torch.no_grad():
            expected = head(batch, (20, 20)).logits
            found = head.cuda()(batch.to("cuda"), (20, 20)).logits.cpu()
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
