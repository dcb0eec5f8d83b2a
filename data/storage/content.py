"""What a file contains, by its first bytes; and its text, unpacked and as UTF-8, in bounded memory."""

import codecs
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Literal

import pyarrow as pa

from data.errors import TableError
from data.storage.regular_files import open_native, open_regular

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Content = Literal["parquet", "arrow", "arrow_stream", "text", "json", "sqlite", "duckdb"]

BLOCK_BYTES = 1 << 20
"""Size of a block of text, bytes."""
MAX_RATIO = 200
"""Maximum size of the content of a packed file, as a multiple of the file's size; text packs to a tenth."""
MIN_BOMB_BYTES = 64 * 2**20
"""Size of a content from which ``MAX_RATIO`` applies, bytes."""

_HEAD_BYTES = 4_096
_TABLES: tuple[tuple[int, bytes, Content], ...] = (
    (0, b"PAR1", "parquet"),
    (0, b"ARROW1", "arrow"),
    (0, b"\xff\xff\xff\xff", "arrow_stream"),
    (0, b"SQLite format 3\0", "sqlite"),
    (8, b"DUCK", "duckdb"),
)
_SAVE = "Save it as CSV or Parquet, and give that file."
_OTHERS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file itself",
        "Download it: git lfs pull",
    ),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel file", _SAVE),
    (b"FEA1", "a Feather file of version 1", _SAVE),
    (b"ORC", "an ORC file", _SAVE),
    (b"\x89HDF", "an HDF5 file", _SAVE),
    (b"\x93NUMPY", "a NumPy file", _SAVE),
    (b"RDX", "an R file", _SAVE),
    (b"RDA", "an R file", _SAVE),
    (b"%PDF", "a PDF document", _SAVE),
    (b"Obj\x01", "an Avro file", _SAVE),
    (b"BZh", "a bzip2 archive", "Unpack it, and give the file in it."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it, and give the file in it."),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "Unpack it, and give the file in it."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it, and give the file in it."),
    (b"Rar!", "a RAR archive", "Unpack it, and give the file in it."),
)
_PICKLE_OPCODES = b"\x80\x02 \x80\x03 \x80\x04 \x80\x05".split()
_MARKUP = (b"<!doctype html", b"<html", b"<head", b"<body")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INITIAL_STATE = (b"", 0)
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"


def content_of(path: Path) -> Content:
    """Recognize the content of a file. Nothing is unpickled.

    Raises
    ------
    TableError
        If it is none of a table; the message states what it is, and what to do.
    FileError
        If the path is not a regular file, or cannot be opened.
    """
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    is_packed = head.startswith((_GZIP, _ZIP))
    if is_packed:
        with _unpacked(path, head) as packed:
            head = packed.read(_HEAD_BYTES)
    if not head.strip():
        raise TableError(_message(path, "an empty file", "Give a file that contains a table with a header line."))
    for start, magic, content in _TABLES:
        if head[start:].startswith(magic):
            if is_packed:
                what = f"a packed {content} file"
                raise TableError(_message(path, what, "Unpack it, and give the file in it."))
            return content
    return _text_content(path, head)


def _text_content(path: Path, head: bytes) -> Content:
    for magic, what, advice in _OTHERS:
        if head.startswith(magic):
            raise TableError(_message(path, what, advice))
    if head.startswith(tuple(_PICKLE_OPCODES)):
        what = "a pickle, which runs code when it is read"
        raise TableError(_message(path, what, "Save the table with to_parquet or to_csv, and give that file."))
    start = head.decode(encoding_of(head), "replace").lstrip("\ufeff \t\r\n").encode()
    if start[:15].lower().startswith(_MARKUP):
        advice = "Download the file itself (on GitHub: Raw), not the page about it."
        raise TableError(_message(path, "an HTML page", advice))
    if start.startswith(b"<?xml"):
        raise TableError(_message(path, "an XML document", _SAVE))
    if b"\0" in start:
        raise TableError(_message(path, "a binary file of an unknown format", _SAVE))
    if start.startswith(b"["):
        advice = "Save it as CSV, Parquet or JSON lines (pandas: to_json with orient='records', lines=True)."
        raise TableError(_message(path, "a JSON array", advice))
    return "json" if start.startswith(b"{") else "text"


def encoding_of(head: bytes) -> str:
    """Recognize the encoding of a text by its first bytes.

    Examples
    --------
    >>> [encoding_of("lat;é".encode(name)) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252")]
    ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-8']
    """
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    # Without a mark: of the ASCII characters of a header line, every other byte is zero.
    places = head[:64]
    if places[1::2].count(0) > len(places) // 4 and not places[::2].count(0):
        return "utf-16-le"
    if places[::2].count(0) > len(places) // 4 and not places[1::2].count(0):
        return "utf-16-be"
    return "utf-8"


@contextmanager
def open_text(path: Path) -> Iterator[io.BufferedReader]:
    """Open a text file, plain or in a gzip or zip file of one, as UTF-8.

    Bytes that are not valid UTF-8 are read as Windows-1252, which contains Latin-1.

    Raises
    ------
    TableError
        If a packed file is damaged, contains more than one file, or unpacks to more than ``MAX_RATIO`` of its size.
    FileError
        See `data.storage.regular_files.open_regular`.
    """
    with open_regular(path) as file:
        head = file.peek(_HEAD_BYTES)[:_HEAD_BYTES]
        if head.startswith((_GZIP, _ZIP)):
            with _unpacked(path, head) as packed:
                yield io.BufferedReader(_Utf8(packed), BLOCK_BYTES)
        else:
            yield io.BufferedReader(_Utf8(file), BLOCK_BYTES)


class _Utf8(io.RawIOBase):
    """A text of any encoding as UTF-8."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._decoder: codecs.IncrementalDecoder | None = None
        self._is_utf8 = False
        self._left = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        while not self._left and not self._ended:
            block = self._file.read(BLOCK_BYTES)
            self._ended = not block
            if self._decoder is None:
                name = encoding_of(block)
                errors = _FALLBACK if name.startswith("utf-8") else "replace"
                self._decoder = codecs.getincrementaldecoder(name)(errors)
                self._is_utf8 = name == "utf-8"
            is_same = self._is_utf8 and block.isascii() and self._decoder.getstate() == _INITIAL_STATE
            text = block if is_same else self._decoder.decode(block, final=self._ended).encode()
            self._left = memoryview(text)
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._left))
        target[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class _Unpacked(io.RawIOBase):
    """The content of a packed file, which raises where it is far larger than that file."""

    def __init__(self, path: Path, file: IO[bytes] | gzip.GzipFile) -> None:
        self._path, self._file, self._read = path, file, 0
        self._limit = max(MIN_BOMB_BYTES, MAX_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer).cast("B")
        with _translate_errors(self._path):
            block = self._file.read(len(target))
        self._read += len(block)
        if self._read > self._limit:
            what = f"a packed file that unpacks to more than {MAX_RATIO} times its size"
            raise TableError(_message(self._path, what, "Unpack it, check what it contains, and give that file."))
        target[: len(block)] = block
        return len(block)


@contextmanager
def _unpacked(path: Path, head: bytes) -> Iterator[io.BufferedReader]:
    if head.startswith(_GZIP):
        with open_regular(path) as file, gzip.GzipFile(fileobj=file, mode="rb") as packed:
            yield io.BufferedReader(_Unpacked(path, packed), BLOCK_BYTES)
        return
    with open_native(path) as file:
        with _translate_errors(path):
            archive = zipfile.ZipFile(file)
            member = _member(path, archive)
            packed_file = archive.open(member)
        with archive, packed_file:
            yield io.BufferedReader(_Unpacked(path, packed_file), BLOCK_BYTES)


def _member(path: Path, archive: zipfile.ZipFile) -> str:
    """The only file of an archive; hidden ones, and those that macOS adds, do not count."""
    names = archive.namelist()
    if "[Content_Types].xml" in names:
        raise TableError(_message(path, "an Excel file", _SAVE))
    if names[:1] == ["mimetype"]:
        raise TableError(_message(path, "an OpenDocument file, such as a spreadsheet", _SAVE))
    if any(name.endswith((".npy", "data.pkl")) for name in names):
        raise TableError(_message(path, "a file of arrays or of a pickled model", _SAVE))
    files = [name for name in names if not name.endswith("/") and not _is_hidden(PurePosixPath(name))]
    if len(files) != 1:
        what = f"a zip file of {len(files):,} files" + f" ({', '.join(files[:3])}, …)" * bool(files)
        raise TableError(_message(path, what, "Unpack it, and give one file, or a folder of Parquet files."))
    return files[0]


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith((".", "__")) for part in name.parts)


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        EOFError,
        OSError,
        zlib.error,
        zipfile.BadZipFile,
        RuntimeError,
        NotImplementedError,
        pa.ArrowException,
    ) as error:
        what = f"a packed file that is damaged or encrypted ({str(error).splitlines()[0] if str(error) else error!r})"
        raise TableError(_message(path, what, "Replace it, or unpack it and give the file in it.")) from error


def _message(path: Path, what: str, advice: str) -> str:
    kind = path.suffix[1:].lower()
    kind = kind if kind in {"parquet", "csv"} else "Parquet or CSV"
    return f"{path}: expected a complete {kind} table; it cannot be read: found {what}. {advice}"


_FALLBACK = "kobe_shot_cp1252"


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(_FALLBACK, _as_cp1252)
