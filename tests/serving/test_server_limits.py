from collections.abc import Iterator
from dataclasses import fields

import pytest

from serving.server_limits import PREFIX, Limits, limits


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    limits.cache_clear()
    yield
    limits.cache_clear()


def test_the_environment_sets_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBE_LIMIT_BODY_BYTES", "1000")
    monkeypatch.setenv("KOBE_LIMIT_HEAD_SECONDS", "0.5")
    assert limits() == Limits(body_bytes=1000, head_seconds=0.5)


def test_an_empty_variable_leaves_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBE_LIMIT_CONNECTIONS", "")
    assert limits() == Limits()


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "1e400", "nan"])
@pytest.mark.parametrize("limit", [limit.name for limit in fields(Limits) if limit.type is int])
def test_what_is_no_integer_is_rejected_with_a_message(monkeypatch: pytest.MonkeyPatch, limit: str, value: str) -> None:
    name = PREFIX + limit.upper()
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}: expected an integer above 0, found '{value}'"):
        limits()


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_what_is_no_duration_is_rejected_with_a_message(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KOBE_LIMIT_BODY_SECONDS", value)
    with pytest.raises(ValueError, match=f"KOBE_LIMIT_BODY_SECONDS: expected a number above 0, found '{value}'"):
        limits()


def test_a_limit_that_is_none_is_refused_with_the_names_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBE_LIMIT_BODIES", "1")
    with pytest.raises(ValueError, match=r"KOBE_LIMIT_BODIES: no such limit; expected one of KOBE_LIMIT_BODY_BYTES, "):
        limits()


def test_one_body_may_not_be_longer_than_all_together() -> None:
    with pytest.raises(ValueError, match="set KOBE_LIMIT_BYTES_IN_FLIGHT as well"):
        Limits(body_bytes=2, bytes_in_flight=1)
