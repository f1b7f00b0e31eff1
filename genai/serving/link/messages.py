"""What goes over the socket, and how it is framed: four bytes of length (big endian), then a msgpack map with its type.

Both ends are of the same release and on the same machine, in a folder that only their user can enter.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from genai.models.generation import (
    EmbedRequest,
    EmbedResult,
    Event,
    GenerationRequest,
    ModelCard,
    RerankRequest,
    RerankResult,
)

MAX_FRAME_BYTES = 1 << 28
_LENGTH = struct.Struct(">I")


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """One frame."""


# --- to the engine ----------------------------------------------------------------------------------------------------


class Generate(Message, frozen=True):
    """Begin answers."""

    requests: list[GenerationRequest]


class Embed(Message, frozen=True):
    """Make vectors."""

    request: EmbedRequest


class Rerank(Message, frozen=True):
    """Score texts."""

    request: RerankRequest


class Abort(Message, frozen=True):
    """Give up requests of any kind."""

    ids: list[str]


class Ask(Message, frozen=True):
    """A question of the operator, or of a worker that needs an encoder: answered by `Told`."""

    id: int
    verb: str
    values: dict[str, Any]


# --- from the engine --------------------------------------------------------------------------------------------------


class Catalogue(Message, frozen=True):
    """What models there are; sent when a connection begins and after every change."""

    cards: list[ModelCard]
    is_ready: bool


class Events(Message, frozen=True):
    """What a step brought for the answers of this connection."""

    events: list[Event]


class Embedded(Message, frozen=True):
    """Vectors."""

    result: EmbedResult


class Reranked(Message, frozen=True):
    """Scores."""

    result: RerankResult


class Told(Message, frozen=True):
    """The answer to `Ask`: a value, or an error as `genai.errors` has them."""

    id: int
    value: dict[str, Any] | None = None
    problem: str | None = None
    where: str | None = None
    fix: str | None = None
    is_usage: bool = False
    """Whether the asker can mend it."""


class Progress(Message, frozen=True):
    """What the engine is doing while it starts or changes; sent to those who asked `follow`."""

    text: str
    share: float | None = None
    """Of that text's work, 0 to 1."""


ToEngine = Generate | Embed | Rerank | Abort | Ask
FromEngine = Catalogue | Events | Embedded | Reranked | Told | Progress

_encoder = msgspec.msgpack.Encoder()
to_engine = msgspec.msgpack.Decoder(ToEngine).decode
from_engine = msgspec.msgpack.Decoder(FromEngine).decode


def frame(message: Message) -> bytearray:
    """A message as it goes over the socket."""
    buffer = bytearray(_LENGTH.size)
    _encoder.encode_into(message, buffer, _LENGTH.size)
    _LENGTH.pack_into(buffer, 0, len(buffer) - _LENGTH.size)
    return buffer


class Framed(asyncio.Protocol):
    """Takes a stream of bytes apart into frames.

    Args:
        on_frame: gets each frame's content; what it raises closes the connection.
        on_lost: called once when the connection is over.
    """

    def __init__(self, on_frame: Callable[[memoryview], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            self._buffer += data
            del self._buffer[: self._take(self._buffer)]
            return
        # Nearly always whole frames come, which are read where they lie.
        taken = self._take(data)
        if taken < len(data):
            self._buffer += data[taken:]

    def _take(self, data: bytes | bytearray) -> int:
        """Hand on the whole frames in `data`; how many bytes that were."""
        start, end = 0, len(data)
        with memoryview(data) as whole:
            while end - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(data, start)
                if length > MAX_FRAME_BYTES:
                    raise ValueError(f"a frame of {length} bytes")
                first = start + _LENGTH.size
                if end - first < length:
                    break
                start = first + length
                with whole[first:start] as content:
                    self._on_frame(content)
        return start

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()

    def send(self, message: Message) -> None:
        """Write a message, unless the connection is over."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(frame(message))
