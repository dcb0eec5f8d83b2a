"""Footer and page headers of a Parquet file, parsed as Arrow parses them, before Arrow uses them.

Arrow allocates the uncompressed size that a page header declares. The footer declares it too, but may be wrong;
so only the headers themselves bound the cost of reading a column.

Formats: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = {1, 2}, 3, {4, 5, 6}, 7, 8, {9, 10}, 11, 12
_I32, _I64 = 5, 6
_MAX_DEPTH = 12
_MAX_ITEMS = 4_000
_LIST = 9
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_ELEMENT = {1: 7, 3: 2, 6: 21}
"""Type, repetition and converted type of an element of the schema, and the last valid value of each."""
_COLUMN = {1: 7, 4: 7}
"""Type and codec of a column."""
_ENCRYPTED, _SIZES = 8, 16
"""Fields of a column chunk with its key, and of a column with its sizes."""
_REQUIRED, _REPEATED = 0, 2
_BYTE_ARRAY = 6
_MAX_ENCODING = 9
_HEADER_FIELD = {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}
_ENCODING_FIELD = {_DATA_PAGE: 2, _DICTIONARY_PAGE: 2, _DATA_PAGE_V2: 4}


class PageHeader(NamedTuple):
    """Values that a page declares; the encoding is -1 if it declares none."""

    kind: int
    uncompressed_bytes: int
    compressed_bytes: int
    encoding: int


def page_headers(chunk: memoryview) -> Iterator[PageHeader]:
    """The header of each page of a column chunk.

    Raises
    ------
    ValueError
        If one is damaged.
    """
    at = 0
    while at < len(chunk):
        reader = _Reader(chunk, at)
        fields = reader.struct(0)
        try:
            kind, uncompressed, compressed = (fields[number, _I32] for number in (1, 2, 3))
        except KeyError as error:
            message = "a page header lacks a field"
            raise ValueError(message) from error
        if uncompressed < 0 or compressed < 0 or reader.at + compressed > len(chunk):
            message = "a page header names an impossible size"
            raise ValueError(message)
        inner = fields.get((_HEADER_FIELD.get(kind, 0), _STRUCT), {})
        yield PageHeader(kind, uncompressed, compressed, inner.get((_ENCODING_FIELD.get(kind, 0), _I32), -1))
        at = reader.at + compressed


def check_metadata(footer: memoryview) -> None:
    """Reject a footer with unknown types, repetitions or codecs: some of them crash Arrow.

    Raises
    ------
    ValueError
    """
    metadata = _Reader(footer, 0).struct(0)
    elements = metadata.get((2, _LIST)) or []
    for element in elements:
        _check_range(element, _ELEMENT)
        if (element.get((5, _I32)) or 0) < 0:
            message = "a group of the schema has a negative number of columns"
            raise ValueError(message)
    leaves = list(_leaves(elements))
    kinds = [leaf.kind for leaf in leaves]
    for group in metadata.get((4, _LIST)) or []:
        chunks = group.get((1, _LIST)) or []
        if any((_ENCRYPTED, _STRUCT) in chunk for chunk in chunks):
            message = "a column is encrypted"
            raise ValueError(message)
        columns = [chunk.get((3, _STRUCT)) or {} for chunk in chunks]
        if [column.get((1, _I32)) for column in columns] != kinds:
            message = "the columns of a row group are not those of the schema"
            raise ValueError(message)
        for column, leaf in zip(columns, leaves, strict=True):
            _check_range(column, _COLUMN)
            _check_sizes(column.get((_SIZES, _STRUCT)) or {}, leaf)
            if any(not 0 <= encoding <= _MAX_ENCODING for encoding in column.get((2, _LIST)) or []):
                message = "a column has an unknown encoding"
                raise ValueError(message)


class _Leaf(NamedTuple):
    """A column of the schema: its type, and its repetition and definition levels."""

    kind: int | None
    repetitions: int
    definitions: int


def _leaves(elements: list[dict[tuple[int, int], Any]]) -> Iterator[_Leaf]:
    """The columns of a schema, which is written group by group from its root."""
    # The remaining elements and the levels of each open group.
    groups = [(elements[0].get((5, _I32)) or 0, 0, 0)] if elements else []
    for element in elements[1:]:
        while groups and not groups[-1][0]:
            groups.pop()
        if not groups:
            message = "the schema has columns outside its root"
            raise ValueError(message)
        left, repetitions, definitions = groups[-1]
        groups[-1] = left - 1, repetitions, definitions
        repetition = element.get((3, _I32), _REQUIRED)
        levels = repetitions + (repetition == _REPEATED), definitions + (repetition != _REQUIRED)
        if children := element.get((5, _I32)):
            groups.append((children, *levels))
        else:
            yield _Leaf(element.get((1, _I32)), *levels)


def _check_sizes(sizes: dict[tuple[int, int], Any], leaf: _Leaf) -> None:
    """Reject statistics whose sizes do not fit their column: they crash Arrow."""
    counts = [len(sizes.get((number, _LIST)) or []) for number in (2, 3)]
    fits = all(count in {0, levels + 1} for count, levels in zip(counts, leaf[1:], strict=True))
    if not fits or ((1, _I64) in sizes and leaf.kind != _BYTE_ARRAY):
        message = "the statistics of a column are not those of its type"
        raise ValueError(message)


def _check_range(fields: dict[tuple[int, int], Any], most: dict[int, int]) -> None:
    for number, end in most.items():
        if not 0 <= fields.get((number, _I32), 0) <= end:
            message = f"a footer has {fields[number, _I32]} where there are 0 to {end}"
            raise ValueError(message)


class _Reader:
    """Thrift's compact protocol, for structs as small as a page header.

    A field is identified by number and type: like Arrow, it ignores a field whose type is not that of the format.
    """

    def __init__(self, data: memoryview, at: int) -> None:
        self._data, self.at = data, at

    def struct(self, depth: int) -> dict[tuple[int, int], Any]:
        """Fields by number and type."""
        if depth > _MAX_DEPTH:
            message = "a page header nests too deep"
            raise ValueError(message)
        fields: dict[tuple[int, int], Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 0x0F
            # The format has 16 bits: with another width the number would not be that of Arrow.
            number = ((number + step if step else _signed(self._varint())) + 0x8000) % 0x10000 - 0x8000
            if (number, kind) in fields:
                # Arrow would mix both.
                message = "a duplicate field"
                raise ValueError(message)
            fields[number, kind] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:  # noqa: ANN401 of whatever type the field has
        if kind in _INTEGERS:
            return _signed(self._varint() & (0xFFFFFFFF if kind == _I32 else 0xFFFFFFFFFFFFFFFF))
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in _BOOLEANS:
            return kind == 1
        if kind == _BINARY:
            self._skip(self._varint())
        elif kind in {_BYTE, _DOUBLE}:
            self._skip(1 if kind == _BYTE else 8)
        elif kind in _LISTS:
            head = self._byte()
            count = head >> 4
            return self._items([head & 0x0F], self._varint() if count == 0x0F else count, depth)  # noqa: PLR2004 the format
        elif kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            self._items([kinds >> 4, kinds & 0x0F], count, depth)
        else:
            message = "a page header has a field of an unknown type"
            raise ValueError(message)
        return None

    def _items(self, kinds: list[int], count: int, depth: int) -> list[Any]:
        if count > _MAX_ITEMS or depth > _MAX_DEPTH:
            message = "a page header holds too much"
            raise ValueError(message)
        items = []
        for _ in range(count):
            for kind in kinds:
                if kind in _BOOLEANS:
                    self._skip(1)
                else:
                    items.append(self._value(kind, depth + 1))
        return items

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 the format
                return number
            shift += 7
            if shift > 63:  # noqa: PLR2004 the format
                message = "a page header holds a number that is too long"
                raise ValueError(message)

    def _byte(self) -> int:
        self._skip(1)
        return self._data[self.at - 1]

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            message = "a page header is cut off"
            raise ValueError(message)


def _signed(number: int) -> int:
    """Decode zigzag: 0, 1, 2, 3 are 0, -1, 1, -2."""
    return (number >> 1) ^ -(number & 1)
