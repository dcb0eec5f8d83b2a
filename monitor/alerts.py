"""Alerts: a change of the status goes to a webhook and to an e-mail address.

The settings are environment variables or the file ``alerts.json``, which the page System writes; a variable wins. A
webhook gets JSON whose key ``text`` is what chat services show. An alert that cannot be delivered is reported, and the
monitoring run goes on.
"""

import os
import re
import smtplib
from collections.abc import Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from data.errors import KobeShotError
from data.masking import masked
from data.paths import ROOT
from data.storage.files import write_text
from monitor.health.cause import cause
from monitor.health.status import HealthStatus
from serving.client.http import session_for

FILE = ROOT / "alerts.json"
"""The settings of this checkout; it may hold secrets and is not committed."""
PREFIX = "KOBE_ALERT_"
"""Of the environment variables: ``KOBE_ALERT_WEBHOOK``, ``KOBE_ALERT_EMAIL``, and so on."""

_TIMEOUT_SECONDS = (3, 10)
_PRIVATE = 0o600
_EMAIL = re.compile(r"[^@\s,;]+@[^@\s,;]+")


class AlertError(KobeShotError):
    """The settings of alerts are invalid, or an alert was not delivered."""


class AlertSettings(BaseModel):
    """Where alerts go.

    Attributes
    ----------
    webhook : str
        ``http`` or ``https`` URL; empty for none.
    email : str
        Recipients, separated by commas; empty for none.
    smtp_host, smtp_port : str, int
        Mail server.
    smtp_user, smtp_password : str
        Empty for a server without authentication; with them, the connection is encrypted (STARTTLS).
    sender : str
        Sender of the e-mail.
    from_status : str
        The least severe status that is reported; a return to *healthy* is reported too.
    link : str
        URL of the monitor, for the message.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook: str = ""
    email: str = ""
    smtp_host: str = "localhost"
    smtp_port: int = Field(default=25, ge=1, le=65_535)
    smtp_user: str = ""
    smtp_password: str = ""
    sender: str = "kobe_shot@localhost"
    from_status: Literal["warning", "retraining recommended"] = "warning"
    link: str = ""

    @field_validator("webhook", "link")
    @classmethod
    def is_url(cls, value: str) -> str:
        """Refuse what is no web URL."""
        if value and (urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).hostname):
            message = "expected an http or https URL, or nothing"
            raise ValueError(message)
        return value.strip()

    @field_validator("email")
    @classmethod
    def are_emails(cls, value: str) -> str:
        """Refuse what is no list of e-mail addresses."""
        if value and not all(_EMAIL.fullmatch(each.strip()) for each in value.split(",")):
            message = "expected e-mail addresses separated by commas, or nothing"
            raise ValueError(message)
        return value.strip()

    @property
    def is_on(self) -> bool:
        """Whether an alert goes anywhere."""
        return bool(self.webhook or self.email)


class Delivery(NamedTuple):
    """What came of an alert: where it went, and the problem, empty where it was delivered."""

    channel: str
    problem: str = ""


def read_settings(path: Path = FILE, environment: Mapping[str, str] = os.environ) -> AlertSettings:
    """The settings of the file, with those of the environment on top.

    Raises
    ------
    AlertError
        If one is invalid.
    """
    try:
        kept = AlertSettings.model_validate_json(path.read_bytes()).model_dump() if path.exists() else {}
        names = {f"{PREFIX}{name.upper()}": name for name in AlertSettings.model_fields}
        given = {names[name]: value for name, value in environment.items() if name in names}
        return AlertSettings.model_validate(kept | given)
    except ValidationError as error:
        raise AlertError(_problem(error)) from error
    except OSError as error:
        message = f"{path.name} cannot be read: {error.strerror}"
        raise AlertError(message) from error


def write_settings(settings: Mapping[str, Any], path: Path = FILE) -> AlertSettings:
    """Write the settings, readable by this user only.

    Raises
    ------
    AlertError
        If one is invalid.
    """
    try:
        found = AlertSettings.model_validate(dict(settings))
    except ValidationError as error:
        raise AlertError(_problem(error)) from error
    path.touch(mode=_PRIVATE)
    write_text(found.model_dump_json(indent=2) + "\n", path)
    path.chmod(_PRIVATE)
    return found


def alert_of(record: Mapping[str, Any], before: str, settings: AlertSettings) -> dict[str, str] | None:
    """The alert of a monitoring run, or None where there is nothing new to report.

    Parameters
    ----------
    record : mapping
        As `monitor.health.record.to_dict` writes it.
    before : str
        Status of the run before, of the same data source; empty for none.
    settings : AlertSettings
    """
    status = HealthStatus(record["status"])
    least = HealthStatus(settings.from_status)
    is_bad, was_bad = status.is_at_least(least), bool(before) and HealthStatus(before).is_at_least(least)
    if str(status) == before or not (is_bad or was_bad):
        return None
    sentence = cause(record).sentence.text()
    return {
        "text": f"{record.get('name') or 'kobe_shot'}: {status}. {sentence}",
        "status": str(status),
        "before": before,
        "cause": sentence,
        "version": str(record.get("version") or ""),
        "source": str(record["current"]["name"]),
        "time": str(record["time"]),
        "link": settings.link,
    }


def deliver(alert: Mapping[str, str], settings: AlertSettings) -> list[Delivery]:
    """Send an alert everywhere that the settings name; a failure is part of the result."""
    found = []
    if settings.webhook:
        found.append(Delivery("webhook", _post(alert, settings.webhook)))
    if settings.email:
        found.append(Delivery("e-mail", _mail(alert, settings)))
    return found


def _post(alert: Mapping[str, str], url: str) -> str:
    try:
        with session_for(url) as session:
            response = session.post(url, json=dict(alert), timeout=_TIMEOUT_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        return f"{urlsplit(url).hostname} does not respond ({type(error).__name__})"
    return "" if response.ok else f"{urlsplit(url).hostname} responded with status {response.status_code}"


def _mail(alert: Mapping[str, str], settings: AlertSettings) -> str:
    message = EmailMessage()
    message["Subject"] = f"kobe_shot: {alert['status']}"
    message["From"], message["To"] = settings.sender, settings.email
    lines = (alert["cause"], "", f"Version {alert['version']} on {alert['source']}, {alert['time']}", alert["link"])
    message.set_content("\n".join(lines).strip() + "\n")
    try:
        with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=_TIMEOUT_SECONDS[1]) as server:
            if settings.smtp_user:
                server.starttls()
                server.login(settings.smtp_user, settings.smtp_password)
            refused = server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        return f"{settings.smtp_host}:{settings.smtp_port} does not take it ({type(error).__name__}: {masked(error)})"
    return f"refused for {', '.join(refused)}" if refused else ""


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "alerts.json"
    return f"Settings of alerts: {where}: {first['msg'].removeprefix('Value error, ')}."
