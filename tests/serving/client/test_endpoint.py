"""The URL of a scoring server: what is accepted, and what is rejected."""

import pytest

from serving.client.endpoint import ScoringError, base_url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
        ("http://127.0.0.1:5001/invocations/", "http://127.0.0.1:5001"),
        ("https://models.example.org/kobe/invocations", "https://models.example.org/kobe"),
        ("127.0.0.1:5001", "http://127.0.0.1:5001"),
        (" localhost:5001/invocations ", "http://localhost:5001"),
        ("[::1]:5001", "http://[::1]:5001"),
        ("http://[::1]:5001/", "http://[::1]:5001"),
        ("http://model_server:80", "http://model_server:80"),
    ],
)
def test_a_host_with_a_port_is_a_url_over_http_as_it_is_for_curl(given: str, url: str) -> None:
    assert base_url(given) == url


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "starts with http:// or https://.*found ''"),
        ("localhost", "starts with http:// or https://.*found 'localhost'"),
        ("ftp://127.0.0.1:5001", "starts with http:// or https://.*found ftp://"),
        ("file:///tmp/model", "starts with http:// or https://.*found file://"),
        ("http://", "with a host"),
        ("http:///invocations", "with a host"),
        ("http://:5001", "with a host"),
        ("http://[", "found an invalid one"),
        ("http://example..org:5001", "valid host.*example..org"),
        ("http://my host:5001", "valid host.*my host"),
        ("http://127.0.0.1:99999", "port from 1 to 65535.*found 99999"),
        ("127.0.0.1:0", "port from 1 to 65535.*found 0"),
        ("http://127.0.0.1:http", "port from 1 to 65535.*no integer"),
        ("http://127.0.0.1:", "port from 1 to 65535.*no integer"),
        ("http://127.0.0.1:5001?params=1", "without user, password, query or fragment"),
        ("http://127.0.0.1:5001#top", "without user, password, query or fragment"),
    ],
)
def test_what_is_no_url_is_reported_with_the_mistake(given: str, words: str) -> None:
    with pytest.raises(ScoringError, match=words) as caught:
        base_url(given)
    assert "netrc" not in str(caught.value) or "?" in given or "#" in given


@pytest.mark.parametrize(
    "given",
    [
        "http://user:hunter2@127.0.0.1:5001",
        "user:hunter2@127.0.0.1:5001",
        "http://user:hunter2/x@127.0.0.1:5001",
        "http://user:hunter2@127.0.0.1:99999",
        "ftp://user:hunter2@127.0.0.1",
        "http://user:hunter2",
        "http://127.0.0.1:5001/?token=hunter2",
    ],
)
def test_no_password_of_a_url_is_repeated(given: str) -> None:
    with pytest.raises(ScoringError) as caught:
        base_url(given)
    assert "hunter2" not in str(caught.value)
