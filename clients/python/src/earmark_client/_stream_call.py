"""One connection of a stream: its header, its audio, and the answers of the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from ._connection import Connection
from ._generated.earmark.v1 import stream_pb2
from ._source import Source


class StreamCall:
    """A call of MatchStream. grpcio takes its messages in a thread of its own."""

    def __init__(
        self, connection: Connection, source: Source, header: stream_pb2.StreamHeader
    ) -> None:
        self.start_ms = header.start_ms
        self.has_started = False
        self.has_timed_out = False
        self._header = header
        self._source = source
        self._taker = source.new_taker()
        self._timeout_s = connection.timeout_s
        self._may_send = threading.Event()
        self._shift: int | None = None
        self._responses = connection.matches.MatchStream(
            self._messages(), metadata=connection.metadata
        )

    def next_response(self) -> stream_pb2.MatchStreamResponse:
        """Waits for the next answer.

        Raises StopIteration at the end of the stream, and grpc.RpcError if the call fails.
        """
        response: stream_pb2.MatchStreamResponse = next(self._responses)
        return response

    def send(self, shift: int | None) -> None:
        """Lets the audio go, with `shift` added to its positions; None tells no positions."""
        self._shift = shift
        self.has_started = True
        self._may_send.set()

    def finish(self) -> None:
        """Has the server told that the stream has ended, once the source is closed."""
        self._may_send.set()

    def cancel(self) -> None:
        """Ends the call at once, and lets its thread go."""
        self._responses.cancel()
        self._source.new_taker()
        self._may_send.set()

    def _messages(self) -> Iterator[stream_pb2.MatchStreamRequest]:
        yield stream_pb2.MatchStreamRequest(header=self._header)
        # The server says from where on it wants the audio.
        if not self._may_send.wait(self._timeout_s):
            self.has_timed_out = True
            self._responses.cancel()
            return
        while (piece := self._source.take(self._taker)) is not None:
            position = None if self._shift is None else piece.start + self._shift
            # What lies before the server's first sample has no position.
            if position is None or position >= 0:
                audio = stream_pb2.StreamAudio(data=piece.data, position=position)
                yield stream_pb2.MatchStreamRequest(audio=audio)
