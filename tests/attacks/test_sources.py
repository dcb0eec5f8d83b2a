"""Servers and files that are no source of shots: each is refused, in bounded time, and nothing is changed."""

import errno
import gzip
import http.server
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from data.acquisition import download, redirects, sources
from data.acquisition.provenance import read_provenance
from data.acquisition.raw_tables import DEV_FILE, FILES
from data.errors import FileError, KobeShotError, SchemaError, TableError
from data.schema import THREE_POINTS, TWO_POINTS
from data.storage.files import sha256
from data.storage.regular_files import open_regular
from data.storage.tables import TableReader
from serving import registry
from serving.inference_log.ground_truth import LabelError, LabelsConfig
from serving.inference_log.ground_truth import run as write_labels
from tests.https import https_server, make_certificate

Reply = Callable[[http.server.BaseHTTPRequestHandler], None]
Attack = Callable[[Reply], str]

SECRET = "s3cr3tvalue"  # noqa: S105 what must not be found
MANY = 2_000_000


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder that holds synthetic shots."""
    sources.acquire("synthetic", rows=500, seed=1, raw=tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def folder(tmp_path: Path, shots: pd.DataFrame) -> Path:
    """A folder with the two files."""
    made = tmp_path / "folder"
    made.mkdir()
    for name, points in zip(FILES, (TWO_POINTS, THREE_POINTS), strict=True):
        shots[shots["shot_type"] == points].to_parquet(made / name, index=False)
    return made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def attack(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Attack]:
    """Start a server that replies so to every GET; its url."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    servers = []

    def start(reply: Reply) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                reply(self)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        servers.append(https_server(Handler, *certificate))
        return servers[-1].__enter__()

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def response(handler: http.server.BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content_Length": str(len(body))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def without_sums(reply: Reply) -> Reply:
    """Respond with 404 for the list of checksums, else reply."""

    def selected(handler: http.server.BaseHTTPRequestHandler) -> None:
        if "SHA256SUMS" in handler.path:
            response(handler, b"", 404)
        else:
            reply(handler)

    return selected


def refused(what: str | Path, raw: Path, *, max_bytes: int = download.MAX_SOURCE_BYTES) -> str:
    """The message about a rejected source; existing files stay as they were."""
    before = {path.name: sha256(path) for path in raw.iterdir() if path.is_file()}
    with pytest.raises(KobeShotError) as caught:
        sources.acquire(str(what), rows=500, seed=1, raw=raw, max_bytes=max_bytes)
    assert {path.name: sha256(path) for path in raw.iterdir() if path.is_file()} == before
    assert not [path for path in raw.iterdir() if path.name.endswith(".partial")]
    return str(caught.value)


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:9/x", "ftp://example.org/x", "file:///etc/passwd", "//[", "https:"]
)
def test_a_redirect_off_https_is_refused(attack: Attack, raw: Path, target: str) -> None:
    url = attack(without_sums(lambda handler: response(handler, b"", 302, Location=target)))
    assert "https://" in refused(url, raw)


def test_a_redirect_to_a_user_and_password_is_refused_and_not_repeated(attack: Attack, raw: Path) -> None:
    url = attack(without_sums(lambda handler: response(handler, b"", 307, Location=f"https://u:{SECRET}@127.0.0.1/")))
    assert SECRET not in refused(url, raw)


def test_redirects_without_end_are_refused(attack: Attack, raw: Path) -> None:
    url = attack(lambda handler: response(handler, b"", 301, Location=handler.path))
    assert f"more than {redirects.MAX_REDIRECTS} times" in refused(url, raw)


def test_every_url_on_the_way_is_recorded_without_its_signature(attack: Attack, raw: Path, folder: Path) -> None:
    def reply(handler: http.server.BaseHTTPRequestHandler) -> None:
        path, _, query = handler.path.partition("?")
        if query:
            response(handler, (folder / Path(path).name).read_bytes())
        else:
            response(handler, b"", 302, Location=f"{path}?X-Amz-Signature={SECRET}&jwt={SECRET}")

    url = attack(without_sums(reply))
    found = sources.acquire(url, rows=500, seed=1, raw=raw)
    assert found.redirects == {name: [f"{url}/{name}?X-Amz-Signature=***&jwt=***"] for name in FILES}
    assert read_provenance(raw) == found
    assert SECRET not in (raw / "source.json").read_text()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("127.0.0.1", "this machine"),
        ("169.254.169.254", "this machine"),
        ("::1", "this machine"),
        ("10.0.0.7", "private"),
    ],
)
def test_a_redirect_from_the_web_to_a_machine_within_is_refused(
    monkeypatch: pytest.MonkeyPatch, target: str, words: str
) -> None:
    known = {"web.example": "8.8.8.8", "within.example": target}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *_, **__: [(0, 0, 0, "", (known.get(host, host.strip("[]")), 0))]
    )
    start = "https://web.example/shots"
    for host in ("within.example", f"[{target}]" if ":" in target else target):
        with pytest.raises(KobeShotError, match=words):
            redirects.next_url(start, start, f"https://{host}/shots")
    assert redirects.next_url(start, start, "/other") == "https://web.example/other"
    within = "https://within.example/shots"
    assert redirects.next_url(within, within, start) == start


def test_a_server_that_sends_a_byte_now_and_then_does_not_hold_the_command(
    attack: Attack, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "DOWNLOAD_SECONDS", 1.0)
    over = threading.Event()

    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not over.wait(0.05):
            handler.wfile.write(b"x")

    def drip_heads(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not over.wait(0.05):
            handler.wfile.write(b"x")

    try:
        for reply in (drip, drip_heads):
            assert "took longer than 1 s" in refused(attack(without_sums(reply)), raw)
    finally:
        over.set()


def test_a_body_without_end_is_cut_at_the_limit(attack: Attack, raw: Path) -> None:
    sent = itertools.count()

    def stream(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            next(sent)

    assert "at most 2,000,000 bytes" in (output := refused(attack(without_sums(stream)), raw, max_bytes=MANY))
    assert "max_source_bytes" in output
    assert "at most 65,536 bytes" in refused(attack(stream), raw)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        ("10", "not a complete Parquet file"),
        ("200", "closed the connection"),
        ("-5", "not a complete Parquet file"),
        ("abc", "not a complete Parquet file"),
        (str(10**12), "max_source_bytes"),
        ("9" * 4_000, "max_source_bytes"),
    ],
)
def test_a_length_that_is_a_lie_is_reported(attack: Attack, raw: Path, length: str, words: str) -> None:
    url = attack(without_sums(lambda handler: response(handler, b"PAR1" + b"x" * 90, Content_Length=length)))
    assert words in refused(url, raw)


def test_a_packed_body_is_refused_before_it_is_unpacked(attack: Attack, raw: Path) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    url = attack(without_sums(lambda handler: response(handler, bomb, Content_Encoding="gzip")))
    assert "without encoding" in refused(url, raw)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        # A name of a socket is short.
        made.bind(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}/{path.name}")


def make_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def make_link_to_the_kernel(path: Path) -> None:
    path.symlink_to("/proc/self/environ")


NO_FILES = [make_fifo, make_link_to_a_device, make_socket, make_link_to_itself, make_link_to_the_kernel]


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_regular_file_is_refused_wherever_it_is(
    raw: Path, folder: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    for name in ("shots.csv", "shots.parquet"):
        make(tmp_path / name)
        with pytest.raises((ValueError, KobeShotError)):
            sources.acquire(sources.validate_source(str(tmp_path / name)), rows=500, seed=1, raw=raw)
        assert name in refused(tmp_path / name, raw)
        with pytest.raises((TableError, SchemaError)):
            list(TableReader(tmp_path / name).chunks(100)) or TableReader(tmp_path / name).schema.field("lat")
        with pytest.raises(LabelError):
            write_labels(LabelsConfig(file=str(tmp_path / name), log="sqlite://"))
    parts = tmp_path / "parts"
    parts.mkdir()
    make(parts / "part-1.parquet")
    assert "part-1.parquet" in refused(parts, raw)
    for name in (DEV_FILE, "SHA256SUMS"):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        assert name in refused(folder, raw)
        (folder / name).unlink()
        (folder / DEV_FILE).write_bytes((raw / DEV_FILE).read_bytes())


def test_a_file_that_grows_or_shrinks_while_it_is_read_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "shots.csv"
    for change in (lambda: path.write_bytes(b"y" * 9_000_000), lambda: os.truncate(path, 2_000_000)):
        path.write_bytes(b"x" * 5_000_000)
        with open_regular(path) as file:
            file.read(10)
            change()
            with pytest.raises(FileError, match="changed while it was read"):
                file.read()


def test_a_source_that_is_too_large_is_refused_before_it_is_copied(
    raw: Path, folder: Path, shots: pd.DataFrame
) -> None:
    assert "max_source_bytes" in refused(folder, raw, max_bytes=50_000)
    shots.to_csv(folder / "shots.csv", index=False)
    assert "max_source_bytes" in refused(folder / "shots.csv", raw, max_bytes=50_000)


def test_a_long_list_of_checksums_is_refused(raw: Path, folder: Path) -> None:
    (folder / "SHA256SUMS").write_bytes(b"0" * 1_000_000)
    assert "at most 65,536 bytes" in refused(folder, raw)


def test_a_header_line_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shots.csv").write_bytes(b"x" * 3_000_000)
    with pytest.raises(TableError, match="header line"):
        TableReader(tmp_path / "shots.csv")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "data/raw/x"), "data/raw/x: Permission"),
        (OSError(errno.ENOSPC, "No space left on device"), "Free some space"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), "shorter name"),
        (OSError(errno.EMFILE, "Too many open files", "shots.csv"), "ulimit -n"),
        (OSError(errno.EROFS, "Read-only file system", "out.parquet"), "out.parquet: Read-only"),
    ],
)
def test_an_error_of_the_file_system_is_not_blamed_on_the_tracking_store(error: OSError, words: str) -> None:
    with pytest.raises(FileError, match=words) as caught, registry.translate_store_errors():
        raise error
    assert "store" not in str(caught.value)


def test_a_connection_that_breaks_is_the_stores(store: str) -> None:
    with pytest.raises(registry.StoreError, match="tracking store"), registry.translate_store_errors():
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert store
