import pytest

from fairway.app import Fairway
from tests.registry.world import World


@pytest.fixture
def world(fairway: Fairway) -> World:
    return World(fairway)
