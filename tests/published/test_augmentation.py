"""Augmentation: image and labels move alike, as far as asked for, and the same wherever and by whomever."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpnet_lite.config import TrainingConfig
from dpnet_lite.episodes import Episode, StepParts
from dpnet_lite.published.augmentation import _OUTSIDE, View, augment, draw_views

CONFIG = TrainingConfig(steps=40, batch_size=4, n_shot=2, scale=0.1, rotation=10.0, blur=0.5, flip=True, seed=3)
EPISODES = [Episode(0, 0, (1, 2))] * 160


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A white square of 8 px on black, left and above the middle of 32 px; its labels."""
    labels = torch.zeros(1, 32, 32, dtype=torch.uint8)
    labels[0, 6:14, 4:12] = 1
    return (255 * labels)[:, None].expand(-1, 3, -1, -1).contiguous(), labels


def test_plain_views_and_mirroring():
    images, labels = scene()
    for before, after in zip((images, labels), augment(images, labels, [View()]), strict=True):
        assert torch.equal(before, after)
    mirrored, moved = augment(images, labels, [View(flip=True)])
    assert moved[0, 6:14, 20:28].all() and moved.sum() == 64
    assert torch.equal(mirrored[0, 0] // 255, moved[0])


def test_scaling_by_two_about_the_middle():
    """The square covers rows 6-14 and columns 4-12; twice as far from the middle (16): -4 to 12 and -8 to 8."""
    images, labels = scene()
    larger, moved = augment(images, labels, [View(scale=2.0)])
    expected = torch.zeros(32, 32, dtype=torch.uint8)
    expected[:12, :8] = 1
    assert torch.equal(moved[0], expected)
    inside = larger[0, 0].float() / 255
    assert (inside[:11, :7] == 1).all() and (inside[13:, :] == 0).all() and (inside[:, 9:] == 0).all()


def test_what_comes_in_from_outside_is_ignored_and_grey():
    """Half as large: the scene covers 8 to 24, moved by an eighth of the side (4 px) to the right: 12 to 28."""
    images, labels = scene()
    smaller, moved = augment(images, labels, [View(scale=0.5, shift=(0.125, 0.0))])
    known = torch.zeros(32, 32, dtype=torch.bool)
    known[8:24, 12:28] = True
    assert torch.equal(moved[0] != 255, known)
    assert smaller[0, :, 0, 0].tolist() == _OUTSIDE
    assert int((moved == 1).sum()) == 16  # 4 x 4


def test_no_rim_between_the_scene_and_what_lies_outside():
    """A scene of one colour: every pixel lies between that colour and the one outside, also at the turned border."""
    images = torch.tensor([200, 210, 220], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 32, 32).contiguous()
    labels = torch.zeros(1, 32, 32, dtype=torch.uint8)
    turned, moved = augment(images, labels, [View(angle=30.0, scale=0.8)])
    for channel, inside in enumerate((200, 210, 220)):
        values = turned[0, channel]
        assert values.min() == _OUTSIDE[channel] and values.max() == inside
        assert ((values > _OUTSIDE[channel]) & (values < inside)).any()  # the border is mixed, in shares
    assert (moved == 255).any() and (moved == 0).any()


def test_a_quarter_turn_moves_image_and_labels_alike():
    images, labels = scene()
    turned, moved = augment(images, labels, [View(angle=90.0)])
    assert torch.equal(moved[0], torch.rot90(labels[0], 1 if moved[0, 24, 10] else -1))
    assert torch.equal(turned[0, 0] // 255, moved[0])


def test_blur_smooths_the_image_and_leaves_the_labels():
    images, labels = scene()
    blurred, same = augment(images, labels, [View(blur=True)])
    assert torch.equal(same, labels)
    assert ((blurred > 0) & (blurred < 255)).any() and blurred[0, 0, 10, 8] == 255


def test_views_are_as_wide_as_asked_for():
    views = [view for part in StepParts(EPISODES, CONFIG, range(40)) for view in draw_views(part, CONFIG)]
    assert len(views) == 40 * 4 * 3
    scales, angles = np.array([v.scale for v in views]), np.array([v.angle for v in views])
    assert 0.9 <= scales.min() < 0.905 and 1.095 < scales.max() <= 1.1
    assert -10 <= angles.min() < -9.5 and 9.5 < angles.max() <= 10
    for share in (np.mean([v.flip for v in views]), np.mean([v.blur for v in views])):
        assert abs(share - 0.5) < 0.08
    for axis in (0, 1):  # a larger scene fills the square, a smaller one lies wholly inside, anywhere in that room
        shares = np.array([view.shift[axis] / (abs(view.scale - 1) / 2) for view in views])
        assert -1.001 < shares.min() < -0.95 and 0.95 < shares.max() < 1.001 and abs(shares.mean()) < 0.1


def test_images_are_interpolated_and_blurred_over_five_pixels():
    images = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)
    images[:, :, 16, 16] = 255
    labels = torch.zeros(1, 33, 33, dtype=torch.uint8)
    blurred, _ = augment(images, labels, [View(blur=True)])
    assert (blurred[0, 0].sum(dim=0) > 0).sum() == 5 and (blurred[0, 0].sum(dim=1) > 0).sum() == 5
    moved, _ = augment(images, labels, [View(scale=1.0, angle=45.0, shift=(0.5 / 33, 0.0))])
    assert int((moved[0, 0] > _OUTSIDE[0] * 0 + 10).sum()) > 1 and moved[0, 0, 14:19, 14:19].max() < 255


def test_nothing_asked_for_gives_plain_views():
    plain = TrainingConfig(steps=4, batch_size=2, flip=False)
    assert all(v == View() for part in StepParts(EPISODES, plain, range(4)) for v in draw_views(part, plain))


@pytest.mark.parametrize(("n_processes", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_views_do_not_depend_on_the_division(n_processes, accumulate):
    whole = {p.step: draw_views(p, CONFIG) for p in StepParts(EPISODES, CONFIG, range(5))}
    divided = TrainingConfig(**{**CONFIG.to_dict(), "accumulate": accumulate})
    for rank in range(n_processes):
        for part in StepParts(EPISODES, divided, range(5), rank=rank, n_processes=n_processes):
            n = len(part.episodes)
            assert draw_views(part, divided) == whole[part.step][3 * part.first : 3 * (part.first + n)]
