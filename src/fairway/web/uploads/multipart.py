"""A streaming reader of multipart/form-data for uploads.

Frameworks take a part without a file name for a text field and refuse it above a megabyte; and they spool a file on the
event loop. Here a form comes part by part as it arrives, and whoever reads it says where the bytes of each go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fairway.errors import Malformed
from fairway.web.uploads.intake import Buffered, chunks

PARTS_MAX = 16
HEADERS_MAX = 8 << 10
TEXT_MAX = 256 << 10


@dataclass(frozen=True, slots=True)
class Part:
    """Where a part begins: the field it is of, the file name it gives, and its headers, their names in lower case."""

    field: str
    filename: str | None
    headers: dict[str, str]


Event = Part | bytes | None
"""A part begins, some of its bytes, or it ends."""


class Parts:
    """A form as it arrives, of at most `most` parts."""

    def __init__(self, content_type: str, *, most: int = PARTS_MAX) -> None:
        """Raises: Malformed: it says that it is no form."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Malformed("The body must be multipart/form-data with a boundary.", code="multipart_invalid")
        self.ended = False
        self._name = self._value = b""
        self._headers: dict[str, str] = {}
        self._parts, self._most = 0, most
        self._events: list[Event] = []
        callbacks = {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]

    async def events(self, request: Request) -> AsyncIterator[Event]:
        """What arrives, in order, also of a chunk that breaks off. Raises: Malformed: this is no form we can read, or it
        stopped arriving.
        """
        async for chunk in chunks(request):
            broken = self._feed(chunk)
            arrived, self._events = self._events, []
            for event in arrived:
                yield event
            if broken is not None:
                raise broken

    def require_end(self) -> None:
        """Pass for a form that is complete. Raises: Malformed."""
        if not self.ended:
            raise Malformed("The form ended too early.", code="multipart_invalid")

    def _feed(self, chunk: bytes) -> Malformed | None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            return Malformed("The multipart body is broken.", code="multipart_invalid")
        except Malformed as error:
            return error
        return None

    def _part_begin(self) -> None:
        self._parts += 1
        self._headers, self._name, self._value = {}, b"", b""
        if self._parts > self._most:
            raise Malformed(f"The form has more than {self._most} parts.", code="multipart_invalid")

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
        self._events.append(Part(field, filename, self._headers))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _part_end(self) -> None:
        self._events.append(None)

    def _end(self) -> None:
        self.ended = True


class Form:
    """One form of a client: the field `file` goes to a staged file, every other field is kept as small text."""

    def __init__(self, content_type: str, into: Buffered) -> None:
        self.fields: dict[str, bytearray] = {}
        self.file: dict[str, str] | None = None  # the headers of the file's part, once it has begun
        self._into = into
        self._parts = Parts(content_type)

    async def read(self, request: Request) -> None:
        """Raises: Malformed: this is no form we can read. TooLarge, StorageFull: as the staged file does."""
        text: bytearray | None = None  # none: what arrives is of the file
        async for event in self._parts.events(request):
            if isinstance(event, Part):
                text = self._begin(event)
            elif event is not None and text is None:
                self._into.write(event)
                await self._into.settle()
            elif event is not None and text is not None:
                keep(text, event)
        if not self._parts.ended or self.file is None:
            raise Malformed("The form has no field 'file' that ends.", code="multipart_invalid")

    def _begin(self, part: Part) -> bytearray | None:
        if part.field != "file":
            return self.fields.setdefault(part.field, bytearray())
        if self.file is not None:
            raise Malformed("The form has two fields 'file'.", code="multipart_invalid")
        self.file = part.headers | ({"filename": part.filename} if part.filename else {})
        return None


def keep(text: bytearray, more: bytes, *, most: int = TEXT_MAX) -> None:
    """Add to a field of small text. Raises: Malformed."""
    text.extend(more)
    if len(text) > most:
        raise Malformed(f"A field of the form is longer than {most} bytes.", code="multipart_invalid")


def disposition(header: str) -> tuple[str, str | None]:
    """Field name and file name of a part; the standard library knows RFC 2231's forms."""
    message = Message()
    message["content-disposition"] = header.replace("\r", " ").replace("\n", " ")
    field = message.get_param("name", "", "content-disposition")
    return str(field or ""), message.get_filename()
