"""Alerts reach a webhook and a mail server on this machine."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from monitor import alerts
from monitor.alerts import AlertError, AlertSettings

RECORD = {
    "status": "retraining recommended",
    "checks": [
        {"code": "K106", "title": "Label coverage", "status": "warning", "message": "9 of 10 rows have no label"},
    ],
    "version": "3",
    "champion": "3",
    "current": {"name": "prod", "rows": 10, "labeled": 1},
    "metrics": {"reference": None, "current": None},
    "time": "2026-11-27T08:00:00+00:00",
}


@contextmanager
def listening(server: socketserver.BaseServer) -> Iterator[int]:
    """A server in a thread; its port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield int(server.server_address[1])  # type: ignore[index]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[int, list[Any]]]:
    """A webhook, and what it receives."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with listening(HTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, received


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """A mail server that speaks enough of SMTP, and the messages that it receives."""
    received: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().decode().strip().upper():
                if line == "QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                if line == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = []
                    while (part := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                        lines.append(part)
                    received.append("\n".join(lines))
                self.wfile.write(b"250 ok\r\n")

    with listening(socketserver.TCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, received


def test_a_changed_status_reaches_the_webhook_and_the_mail_server() -> None:
    with webhook() as (port, posted), mail_server() as (smtp_port, mailed):
        settings = AlertSettings(
            webhook=f"http://127.0.0.1:{port}/hook", email="ana@example.org", smtp_host="127.0.0.1",
            smtp_port=smtp_port, link="https://monitor.example.org",
        )  # fmt: skip
        alert = alerts.alert_of(RECORD, "healthy", settings)
        assert alert is not None
        assert [(each.channel, each.problem) for each in alerts.deliver(alert, settings)] == [
            ("webhook", ""),
            ("e-mail", ""),
        ]
    assert posted == [alert]
    assert alert["text"].startswith("kobe_shot: retraining recommended. Label coverage: 9 of 10 rows")
    assert "To: ana@example.org" in mailed[0]
    assert "Label coverage" in mailed[0]
    assert "https://monitor.example.org" in mailed[0]


@pytest.mark.parametrize(
    ("before", "status", "least", "is_sent"),
    [
        ("", "retraining recommended", "warning", True),
        ("retraining recommended", "retraining recommended", "warning", False),
        ("warning", "retraining recommended", "warning", True),
        ("healthy", "warning", "retraining recommended", False),
        ("retraining recommended", "healthy", "retraining recommended", True),
        ("", "healthy", "warning", False),
    ],
)
def test_only_a_change_is_an_alert_and_a_recovery_too(before: str, status: str, least: str, is_sent: bool) -> None:  # noqa: FBT001
    settings = AlertSettings.model_validate({"from_status": least})
    checks = [] if status == "healthy" else RECORD["checks"]
    found = alerts.alert_of({**RECORD, "status": status, "checks": checks}, before, settings)
    assert (found is not None) == is_sent


def test_a_failing_webhook_and_no_mail_server_are_problems_and_no_errors() -> None:
    with (
        webhook(500) as (port, _),
        listening(socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)) as other,
    ):
        settings = AlertSettings(
            webhook=f"http://127.0.0.1:{port}", email="ana@example.org", smtp_host="127.0.0.1", smtp_port=other
        )
        problems = [each.problem for each in alerts.deliver(alerts.alert_of(RECORD, "", settings) or {}, settings)]
    assert "responded with status 500" in problems[0]
    assert "does not take it" in problems[1]


def test_settings_are_kept_in_a_private_file_and_a_variable_wins(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    assert not alerts.read_settings(path, {}).is_on
    alerts.write_settings({"email": "ana@example.org", "smtp_port": 2525}, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert alerts.read_settings(path, {}).smtp_port == 2525
    assert alerts.read_settings(path, {"KOBE_ALERT_EMAIL": "ben@example.org"}).email == "ben@example.org"


@pytest.mark.parametrize(
    ("name", "value"),
    [("webhook", "ftp://x"), ("email", "not-an-inbox"), ("smtp_port", "0"), ("from_status", "healthy")],
)
def test_an_invalid_setting_is_an_error_that_names_it(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(AlertError, match=f"Settings of alerts: {name}: "):
        alerts.write_settings({name: value}, tmp_path / "alerts.json")
    with pytest.raises(AlertError, match=f"Settings of alerts: {name}: "):
        alerts.read_settings(tmp_path / "alerts.json", {f"KOBE_ALERT_{name.upper()}": value})
