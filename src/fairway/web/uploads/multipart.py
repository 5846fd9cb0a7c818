"""A streaming reader of multipart/form-data for uploads.

Frameworks take a part without a file name for a text field and refuse it above a megabyte; and they spool a file on the
event loop. Here the part is found by its field name, and its bytes go straight to the staged file.
"""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fairway.errors import Malformed
from fairway.web.uploads.intake import Buffered, chunks

PARTS_MAX = 16
HEADERS_MAX = 8 << 10
TEXT_MAX = 256 << 10


class Form:
    """One form: the field `file` goes to a staged file, every other field is kept as small text."""

    def __init__(self, content_type: str, into: Buffered) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Malformed("The body must be multipart/form-data with a boundary.", code="multipart_invalid")
        self.fields: dict[str, bytearray] = {}
        self.file: dict[str, str] | None = None  # the headers of the file's part, once it has begun
        self._into = into
        self._name = self._value = b""
        self._headers: dict[str, str] = {}
        self._sink: Callable[[bytes], None] = self._nowhere
        self._parts = 0
        self._ended = False
        callbacks = {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]

    async def read(self, request: Request) -> None:
        """Raises: Malformed: this is no form we can read. TooLarge, StorageFull: as the staged file does."""
        try:
            async for chunk in chunks(request):
                self._parser.write(chunk)
                await self._into.settle()
            self._parser.finalize()
        except FormParserError:
            raise Malformed("The multipart body is broken.", code="multipart_invalid") from None
        if not self._ended or self.file is None:
            raise Malformed("The form has no field 'file' that ends.", code="multipart_invalid")

    def _part_begin(self) -> None:
        self._parts += 1
        self._headers, self._name, self._value = {}, b"", b""
        if self._parts > PARTS_MAX:
            raise Malformed(f"The form has more than {PARTS_MAX} parts.", code="multipart_invalid")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._bounded()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bounded()

    def _bounded(self) -> None:
        if len(self._name) + len(self._value) > HEADERS_MAX:
            raise Malformed("A part's headers are too long.", code="multipart_invalid")

    def _header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        field, filename = disposition(self._headers.get("content-disposition", ""))
        if field == "file":
            if self.file is not None:
                raise Malformed("The form has two fields 'file'.", code="multipart_invalid")
            self.file = self._headers | ({"filename": filename} if filename else {})
            self._sink = self._into.write
            return
        text = self.fields.setdefault(field, bytearray())

        def keep(data: bytes) -> None:
            text.extend(data)
            if len(text) > TEXT_MAX:
                raise Malformed(f"The field {field[:40]!r} is too long.", code="multipart_invalid")

        self._sink = keep

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._sink(data[start:end])

    def _end(self) -> None:
        self._ended = True

    def _nowhere(self, data: bytes) -> None:
        """Before the first part there is nothing to keep."""


def disposition(header: str) -> tuple[str, str | None]:
    """Field name and file name of a part; the standard library knows RFC 2231's forms."""
    message = Message()
    message["content-disposition"] = header.replace("\r", " ").replace("\n", " ")
    field = message.get_param("name", "", "content-disposition")
    return str(field or ""), message.get_filename()
