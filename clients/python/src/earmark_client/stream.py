"""A stream that is matched as it goes: the events of one stream over any number of connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType

import grpc

from . import _convert
from ._connection import Connection
from ._generated.earmark.v1 import stream_pb2
from ._retry import Backoff
from ._source import Source
from ._stream_call import StreamCall
from ._told import Told
from .errors import DeadlineExceeded
from .events import Event

# How long a server may take to tell the last events when a stream is closed.
_CLOSING_S = 2.0


class MatchStream(Iterator[Event]):
    """The events of a stream, made by `Client.match_stream`. Use it in a `with` statement.

    Iterating waits for the next event. It ends when the chunks have ended and the server has told
    everything, or after `close`. It raises an `EarmarkError` if the server refuses the stream or
    stays away, and whatever the chunks raised, behind the last event.

    One thread may iterate; `close` may be called from any.
    """

    def __init__(
        self,
        connection: Connection,
        source: Source,
        header: stream_pb2.StreamHeader,
        start_ms: int | None,
        reconnect_s: float,
    ) -> None:
        self._connection = connection
        self._source = source
        self._header = header
        self._start_ms = start_ms
        self._reconnect_s = reconnect_s
        self._told = Told()
        self._call: StreamCall | None = None
        self._backoff: Backoff | None = None
        # Time of the source's first unit in milliseconds; None until the server has accepted the
        # stream. Fractions of a millisecond keep positions of samples exact.
        self._zero_ms: Fraction | None = None
        self._is_closed = threading.Event()
        self._is_over = False
        # Held while an event is waited for.
        self._reading = threading.Lock()

    def __enter__(self) -> MatchStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Threads would wait for chunks and events that nobody wants any more.
        self._end()

    def __next__(self) -> Event:
        with self._reading:
            event = self._advance()
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Ends the stream, also while another thread waits for an event. Closing twice is harmless.

        Of the chunks at most the one that is waited for is still taken. The server is told, so that
        it does not wait for the stream to be resumed; this takes two seconds at most.
        """
        self._is_closed.set()
        self._source.close()
        call = self._call
        if call is not None:
            call.finish()
        impatience = threading.Timer(_CLOSING_S, self._cancel)
        impatience.daemon = True
        impatience.start()
        # A thread that waits for an event at this moment reads to the end itself.
        if self._reading.acquire(blocking=False):
            try:
                # Nothing is told of a closed stream, so this is the end.
                self._advance()
            finally:
                self._reading.release()
            impatience.cancel()

    def _advance(self) -> Event | None:
        """Waits for an event that the caller should see; None at the end."""
        while not self._is_over:
            try:
                event = self._next_event()
            except BaseException:
                self._end()
                raise
            if event is not None and not self._is_closed.is_set():
                return event
        return None

    def _next_event(self) -> Event | None:
        """Waits for the next event; None if there is none to tell yet."""
        if self._is_closed.is_set() and self._call is None:
            self._end()
            return None
        call = self._call if self._call is not None else self._connect()
        try:
            message = call.next_response()
        except StopIteration:
            self._end()
            if self._source.error is not None and not self._is_closed.is_set():
                raise self._source.error from None
            return None
        except grpc.RpcError as error:
            self._recover(call, error)
            return None
        if message.HasField("started"):
            self._go_on(call, message.started)
        event = _convert.event(message)
        return None if event is None else self._told.pass_on(event)

    def _connect(self) -> StreamCall:
        self._source.start()
        if self._backoff is None:
            # The first connection is a call like all others.
            end_s = time.monotonic() + self._connection.timeout_s
            self._backoff = Backoff(self._connection.retries, end_s)
        header = stream_pb2.StreamHeader()
        header.CopyFrom(self._header)
        if self._zero_ms is None:
            header.start_ms = self._start_ms or 0
        else:
            # A server that has forgotten the stream gets what is kept of it.
            header.start_ms = round(self._zero_ms + self._ms(self._source.oldest))
        call = StreamCall(self._connection, self._source, header)
        self._call = call
        if self._is_closed.is_set():
            call.finish()
        return call

    def _go_on(self, call: StreamCall, started: stream_pb2.StreamStarted) -> None:
        """Sends what the server does not have yet."""
        self._backoff = None
        if self._header.HasField("encoded"):
            call.send(None)
            return
        # Positions count from the start of the connection with which the server's stream began.
        # This start is exact in milliseconds; the time of a sample is not.
        origin_ms = started.position_ms - int(self._ms(started.position))
        if self._zero_ms is None:
            if started.resumed and self._start_ms is None:
                # The chunks follow what an earlier process has sent.
                self._zero_ms = origin_ms + self._ms(started.position)
            else:
                self._zero_ms = Fraction(call.start_ms)
        elif origin_ms == call.start_ms:
            self._zero_ms = call.start_ms - self._ms(self._source.oldest)
        shift = round((self._zero_ms - origin_ms) * self._source.units_per_s / 1000)
        self._source.rewind(started.position - shift)
        call.send(shift)

    def _recover(self, call: StreamCall, error: grpc.RpcError) -> None:
        """Waits until it is time to connect again. Raises what the call failed of if it is not."""
        self._call = None
        call.cancel()
        if self._is_closed.is_set():
            return
        left_s = self._connection.timeout_s if self._backoff is None else self._backoff.remaining_s
        failure = self._connection.failure(error, left_s)
        if call.has_timed_out:
            text = f"the server has not accepted the stream within {self._connection.timeout_s:g} s"
            raise DeadlineExceeded(text, "DEADLINE_EXCEEDED") from error
        if call.has_started:
            if failure.code != "UNAVAILABLE" or self._header.HasField("encoded"):
                raise failure from error
            self._backoff = Backoff(None, time.monotonic() + self._reconnect_s)
        pause_s = None if self._backoff is None else self._backoff.pause_s(failure)
        if pause_s is None:
            raise failure from error
        self._connection.pause(failure, pause_s, self._is_closed)

    def _ms(self, units: int) -> Fraction:
        return Fraction(units * 1000, self._source.units_per_s)

    def _cancel(self) -> None:
        call = self._call
        if call is not None:
            call.cancel()

    def _end(self) -> None:
        self._is_over = True
        self._cancel()
        self._call = None
        self._source.close()
