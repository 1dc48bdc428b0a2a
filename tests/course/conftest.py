"""Worlds and an opened episode that several test files look at."""

from __future__ import annotations

import pytest

from dpnet_lite.course.explorers.episode import toy_episodes
from dpnet_lite.course.opened_episode import OpenedEpisode, ToyEpisodes


@pytest.fixture(scope="session")
def toy() -> ToyEpisodes:
    return toy_episodes(0, 0.5)


@pytest.fixture(scope="session")
def far() -> ToyEpisodes:
    """The same fold, with support and query as far apart as they can be."""
    return toy_episodes(0, 1.0)


@pytest.fixture(scope="session")
def opened(toy: ToyEpisodes) -> OpenedEpisode:
    """Of two shots."""
    return toy.open(toy.episodes(n_shot=2)[1])
