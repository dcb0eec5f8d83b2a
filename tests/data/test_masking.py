"""Secrets are masked in output, logs and stored text."""

import logging

import pytest

from data.cli.console import error, info
from data.errors import KobeShotError
from data.masking import mask_log_records, masked

HIDDEN = "hunter2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:hunter2@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql+psycopg://u:hunter2@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql://u:hun%40ter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:a@hunter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:a/hunter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:12/hunter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:a hunter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:a:hunter2@h/d", "postgresql://u:***@h/d"),
        ('postgresql://u:a"hunter2@h/d', "postgresql://u:***@h/d"),
        ("redis://:hunter2@h:6379/0", "redis://:***@h:6379/0"),
        ("http://u:hunter2@[::1]:5000/x", "http://u:***@[::1]:5000/x"),
        ("HTTPS://U:hunter2@H", "HTTPS://U:***@H"),
        ("s3://key:hunter2@bucket/path", "s3://key:***@bucket/path"),
        ("https://hunter2@github.com/a/b.git#c", "https://***@github.com/a/b.git#c"),
        ("https://h/?a=1&token=hunter2&b=2", "https://h/?a=1&token=***&b=2"),
        ("https://h/f?X-Amz-Signature=hunter2", "https://h/f?X-Amz-Signature=***"),
        ("https://h/f?sv=1&sig=hunter2", "https://h/f?sv=1&sig=***"),
        ("postgresql://h/d?password=hunter2", "postgresql://h/d?password=***"),
        ("postgresql://h/d?user=u&sslpassword=hunter2#x", "postgresql://h/d?user=u&sslpassword=***#x"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dhunter2", "mssql+pyodbc:///?odbc_connect=***"),
        ("connection to host=h user=u password=hunter2 failed", "connection to host=h user=u password=*** failed"),
        ("password='a hunter2' x", "password=*** x"),
        ("DRIVER={x};UID=u;PWD={hunter2};", "DRIVER={x};UID=u;PWD=***;"),
        ("MLFLOW_TRACKING_PASSWORD=hunter2 mlflow run .", "MLFLOW_TRACKING_PASSWORD=*** mlflow run ."),
        ("{'Authorization': 'Basic aHVudGVyMjpodW50ZXIy'}", "{'Authorization': 'Basic ***'}"),
        ("two: http://u:hunter2@h, ftp://u:hunter2@h", "two: http://u:***@h, ftp://u:***@h"),
        ("http://u:hunter2@h,http://v:hunter2@h", "http://u:***@h,http://v:***@h"),
        ('{"a":"http://u:hunter2@h","mail":"a@b"}', '{"a":"http://u:***@h","mail":"a@b"}'),
    ],
)
def test_a_secret_is_masked_and_the_rest_is_unchanged(text: str, expected: str) -> None:
    assert masked(text) == expected
    assert masked(masked(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///mlflow.db",
        "http://127.0.0.1:5000",
        "http://127.0.0.1:5000/a@b and c@d",
        "http://[::1]:5000/a@b",
        "postgresql://kobe@h:5432/d",
        "git@github.com:a/b.git",
        "expected at file:///a:b, found none",
        "The password of the account is wrong.",
    ],
)
def test_a_text_without_secrets_is_unchanged(text: str) -> None:
    assert masked(text) == text


def test_errors_and_output_of_a_command_contain_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"postgresql://u:{HIDDEN}@h/d"
    assert str(KobeShotError(f"cannot reach {url}")) == "cannot reach postgresql://u:***@h/d"
    info("Store:", url)
    error("failed:", ValueError(url))
    written = capsys.readouterr()
    assert HIDDEN not in written.out + written.err
    assert "u:***@h" in written.out
    assert "u:***@h" in written.err


def test_logs_of_a_library_contain_no_password(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    try:
        mask_log_records()
        mask_log_records()
        logging.getLogger("mlflow.store").warning("could not connect to %s", f"mysql://u:{HIDDEN}@h/d")
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.messages == ["could not connect to mysql://u:***@h/d"]
