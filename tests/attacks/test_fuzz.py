"""A short sitting of the fuzzer; `make fuzz` is a long one."""

import random

import pytest

from bench.fuzz import fuzz
from tests.attacks.support import Server


def test_broken_bodies_get_no_error_of_the_server(server: Server, pytestconfig: pytest.Config) -> None:
    count, seed = 2 * pytestconfig.getoption("--bodies"), random.SystemRandom().randrange(2**32)
    found = fuzz(server.url, count, seed)
    assert not found.failures, f"seed {seed}: {found.failures[:3]}"
    assert found.statuses[200] > count / 50
    assert found.statuses[400] > count / 50
