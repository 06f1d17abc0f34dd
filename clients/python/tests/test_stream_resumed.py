"""Streams over several connections, against a server that breaks them as it is told.

What the real server finds in a stream is tested in test_stream.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Callable

import grpc
import pytest

from earmark_client import (
    AudioLost,
    Busy,
    Client,
    Encoded,
    MatchEnded,
    MatchStarted,
    MatchUpdated,
    Pcm,
    Progress,
    Started,
    StretchEvent,
    Unauthenticated,
    Unavailable,
)
from earmark_client._generated.earmark.v1 import match_pb2, stream_pb2
from fake_server import fail, fake_server
from test_source import RATE_HZ, SECOND

Responses = Iterator[stream_pb2.MatchStreamResponse]
Requests = Iterator[stream_pb2.MatchStreamRequest]
Connection = Callable[[stream_pb2.StreamHeader, Requests, grpc.ServicerContext], Responses]


class Scripted:
    """Serves each connection by the next function; the last one serves all behind it too."""

    def __init__(self, *connections: Connection) -> None:
        self.connections = connections
        self.headers: list[stream_pb2.StreamHeader] = []
        self.audio: list[list[stream_pb2.StreamAudio]] = []
        self.endings: list[str] = []

    def __call__(self, requests: Requests, context: grpc.ServicerContext) -> Responses:
        number = len(self.headers)
        header = next(requests).header
        self.headers.append(header)
        self.audio.append([])
        connection = self.connections[min(number, len(self.connections) - 1)]
        return connection(header, self._noted(requests, self.audio[number], context), context)

    def _noted(
        self,
        requests: Requests,
        audio: list[stream_pb2.StreamAudio],
        context: grpc.ServicerContext,
    ) -> Requests:
        ending = "broken"
        try:
            for request in requests:
                audio.append(request.audio)
                yield request
            # The requests of a broken call may just end.
            ending = "whole" if context.is_active() else ending
        finally:
            self.endings.append(ending)


def response(**event: Any) -> stream_pb2.MatchStreamResponse:
    return stream_pb2.MatchStreamResponse(heard_s=1.0, **event)


def started(**fields: Any) -> stream_pb2.MatchStreamResponse:
    return response(started=stream_pb2.StreamStarted(**fields))


def found(match_id: int) -> stream_pb2.StreamMatch:
    return stream_pb2.StreamMatch(match_id=match_id)


def broken_after(count: int, *events: stream_pb2.MatchStreamResponse) -> Connection:
    """Starts at the header's time, takes pieces of audio, tells events, and breaks."""

    def connection(
        header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
    ) -> Responses:
        yield started(position_ms=header.start_ms)
        for _ in range(count):
            next(requests)
        yield from events
        fail(context, grpc.StatusCode.UNAVAILABLE, "server is shutting down")

    return connection


def whole(*events: stream_pb2.MatchStreamResponse, **fields: Any) -> Connection:
    """Goes on where `fields` of StreamStarted say, or else at the header's time, to the end."""

    def connection(
        header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
    ) -> Responses:
        yield started(**{"position_ms": header.start_ms, **fields})
        yield from events
        for _ in requests:
            pass
        yield response(progress=stream_pb2.StreamProgress(open_match_count=9))

    return connection


def numbered(second_count: int) -> list[bytes]:
    """Chunks of a second, each different from the others."""
    return [number.to_bytes(2, "little") * RATE_HZ for number in range(second_count)]


def test_a_stream_goes_on_where_the_server_has_stopped() -> None:
    data = numbered(30)
    # The server has taken ten seconds and a part of the eleventh.
    server = Scripted(
        broken_after(20), whole(resumed=True, position_ms=10_500, position=10 * RATE_HZ + 4_000)
    )
    with fake_server(MatchStream=server) as address, Client(address) as client:
        with client.match_stream(data, format=Pcm(RATE_HZ)) as stream:
            events = list(stream)
    assert events[:-1] == [Started(1.0, False, 0), Started(1.0, True, 10_500)]
    assert isinstance(events[-1], Progress)
    first, second = server.headers
    assert first.stream_id
    assert first.stream_id == second.stream_id
    assert (first.pcm.sample_rate_hz, first.pcm.channel_count) == (RATE_HZ, 1)
    assert (first.start_ms, second.start_ms) == (0, 0)
    again = server.audio[1]
    assert [audio.position for audio in again] == list(range(10 * RATE_HZ, 30 * RATE_HZ, RATE_HZ))
    assert [audio.data for audio in again] == data[10:]


def test_a_server_that_has_forgotten_the_stream_gets_the_last_minute() -> None:
    data = numbered(100)
    server = Scripted(broken_after(90), whole())
    with fake_server(MatchStream=server) as address, Client(address) as client:
        stream = client.match_stream(data, format=Pcm(RATE_HZ), stream_id="radio", start_ms=7_000)
        events = list(stream)
    kept_from = 100 - len(server.audio[1])
    assert 29 <= kept_from <= 40
    assert [header.stream_id for header in server.headers] == ["radio", "radio"]
    assert [header.start_ms for header in server.headers] == [7_000, 7_000 + 1_000 * kept_from]
    assert events[1] == Started(1.0, False, 7_000 + 1_000 * kept_from)
    again = server.audio[1]
    assert [audio.position for audio in again] == [RATE_HZ * n for n in range(len(again))]
    assert [audio.data for audio in again] == data[kept_from:]


def test_times_that_are_no_whole_milliseconds_stay_exact() -> None:
    # 44.1 samples a millisecond, in chunks that end between two of them.
    data = [number.to_bytes(2, "little") * 1_001 for number in range(4_000)]

    def resumed(
        header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
    ) -> Responses:
        # It has fifty chunks of what the second connection has sent.
        position = 50 * 1_001
        position_ms = server.headers[1].start_ms + position * 1_000 // 44_100
        going_on = whole(resumed=True, position_ms=position_ms, position=position)
        return going_on(header, requests, context)

    server = Scripted(broken_after(3_500), broken_after(100), resumed)
    with fake_server(MatchStream=server) as address, Client(address) as client:
        list(client.match_stream(data, format=Pcm(44_100)))
    first = server.audio[1][0]
    chunk = data.index(first.data)
    assert chunk > 0
    assert first.position == 0
    assert server.headers[1].start_ms == round(chunk * 1_001 * 1_000 / 44_100)
    last = server.audio[2][0]
    assert (last.position, last.data) == (50 * 1_001, data[chunk + 50])


def test_a_new_process_goes_on_behind_what_the_server_has() -> None:
    server = Scripted(whole(resumed=True, position_ms=12_345, position=98_767))
    with fake_server(MatchStream=server) as address, Client(address) as client:
        list(client.match_stream([SECOND] * 2, format=Pcm(RATE_HZ), stream_id="radio"))
        list(client.match_stream([SECOND] * 14, format=Pcm(RATE_HZ), stream_id="a", start_ms=0))
    assert [audio.position for audio in server.audio[0]] == [98_767, 98_767 + RATE_HZ]
    # Told that the first sample is the very first, it leaves out what the server has.
    assert [audio.position for audio in server.audio[1]] == [12 * RATE_HZ, 13 * RATE_HZ]


def test_each_match_starts_and_ends_once() -> None:
    server = Scripted(
        broken_after(
            5,
            response(match_started=found(1)),
            response(match_started=found(2)),
            response(match_ended=found(1)),
            response(audio_lost=stream_pb2.AudioLost(start_s=1, end_s=2)),
        ),
        whole(
            response(match_ended=found(1)),
            response(audio_lost=stream_pb2.AudioLost(start_s=1, end_s=2)),
            response(match_ended=found(3)),
            response(match_updated=found(2)),
            response(match_updated=found(4)),
            response(match_updated=found(4)),
            response(audio_lost=stream_pb2.AudioLost(start_s=3, end_s=4)),
            # Of a kind that a later release may have.
            response(),
            resumed=True,
        ),
    )
    with fake_server(MatchStream=server) as address, Client(address) as client:
        events = list(client.match_stream([SECOND] * 20, format=Pcm(RATE_HZ)))
    told = [
        (type(event), event.match_id)
        for event in events
        if isinstance(event, (MatchStarted, MatchUpdated, MatchEnded))
    ]
    assert told == [
        (MatchStarted, 1),
        (MatchStarted, 2),
        (MatchEnded, 1),
        (MatchEnded, 3),
        (MatchUpdated, 2),
        (MatchStarted, 4),
        (MatchUpdated, 4),
    ]
    assert [event.end_s for event in events if isinstance(event, AudioLost)] == [2, 4]


def heard(heard_s: float, **event: Any) -> stream_pb2.MatchStreamResponse:
    return stream_pb2.MatchStreamResponse(heard_s=heard_s, **event)


def of(match_id: int, track_id: str, start_s: float, end_s: float) -> stream_pb2.StreamMatch:
    match = match_pb2.Match(track_id=track_id, query_start_s=start_s, query_end_s=end_s)
    match.reference_offset_s = -start_s
    return stream_pb2.StreamMatch(match_id=match_id, match=match)


def unknown(start_s: float, end_s: float | None = None) -> stream_pb2.Stretch:
    kind = stream_pb2.Stretch.KIND_UNKNOWN
    return stream_pb2.Stretch(kind=kind, start_s=start_s, end_s=end_s)


def test_a_server_that_has_forgotten_the_stream_tells_nothing_twice() -> None:
    before = [
        heard(10, stretch=unknown(0)),
        heard(11, stretch=unknown(0, 9)),
        heard(12, match_started=of(1, "a", 9, 12)),
        heard(20, match_ended=of(1, "a", 9, 14)),
        heard(21, match_started=of(2, "b", 18, 21)),
    ]
    again = [
        *before[:3],
        # A little later than the first time.
        heard(21.4, match_ended=of(1, "a", 9, 13.8)),
        heard(21.5, match_started=of(2, "b", 18, 21)),
        heard(40, match_ended=of(2, "b", 18, 33)),
        heard(43, match_started=of(3, "a", 40, 43)),
        heard(55, stretch=unknown(44)),
    ]
    server = Scripted(broken_after(2, *before), broken_after(2, *again), whole(*again[-3:]))
    with fake_server(MatchStream=server) as address, Client(address) as client:
        events = list(client.match_stream([SECOND] * 20, format=Pcm(RATE_HZ)))
    told = [
        (type(event), event.match_id, event.match.track_id)
        for event in events
        if isinstance(event, (MatchStarted, MatchUpdated, MatchEnded))
    ]
    assert told == [
        (MatchStarted, 1, "a"),
        (MatchEnded, 1, "a"),
        (MatchStarted, 2, "b"),
        (MatchUpdated, 2, "b"),
        (MatchEnded, 2, "b"),
        (MatchStarted, 3, "a"),
    ]
    stretches = [event for event in events if isinstance(event, StretchEvent)]
    assert [(event.start_s, event.end_s) for event in stretches] == [(0, None), (0, 9), (44, None)]
    times_s = [event.heard_s for event in events if not isinstance(event, Started)]
    assert times_s == sorted(times_s)


def test_encoded_bytes_are_not_resumed() -> None:
    server = Scripted(broken_after(2), whole())
    with fake_server(MatchStream=server) as address, Client(address) as client:
        with pytest.raises(Busy):
            list(client.match_stream([b"x"] * 5, format=Encoded()))
    assert [header.stream_id for header in server.headers] == [""]
    assert server.headers[0].WhichOneof("format") == "encoded"
    assert not server.audio[0][0].HasField("position")


def test_a_server_that_stays_away_is_given_up() -> None:
    with fake_server(MatchStream=Scripted(broken_after(2))) as address, Client(address) as client:
        stream = client.match_stream([SECOND] * 5, format=Pcm(RATE_HZ), reconnect_s=0)
        assert isinstance(next(stream), Started)
        with pytest.raises(Busy, match="shutting down"):
            next(stream)
        assert next(stream, None) is None
    start_s = time.monotonic()
    with Client(address, timeout_s=2) as client, pytest.raises(Unavailable):
        next(client.match_stream([SECOND], format=Pcm(RATE_HZ)))
    assert time.monotonic() - start_s < 5


def refusing_key(
    header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
) -> Responses:
    fail(context, grpc.StatusCode.UNAUTHENTICATED, "key was revoked", reason="KEY_INVALID")
    yield response()


def limiting_key(
    header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
) -> Responses:
    # As when the server has not noticed yet that the connection before is broken.
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    fail(context, code, "no place", reason="KEY_LIMIT", retry_after_s=0.1)
    yield response()


def test_a_key_that_is_no_longer_known_ends_the_reconnecting() -> None:
    server = Scripted(broken_after(2), limiting_key, limiting_key, refusing_key)
    with fake_server(MatchStream=server) as address, Client(address, retries=0) as client:
        stream = client.match_stream([SECOND] * 5, format=Pcm(RATE_HZ))
        assert isinstance(next(stream), Started)
        with pytest.raises(Unauthenticated) as caught:
            next(stream)
        assert (caught.value.reason, caught.value.message) == ("KEY_INVALID", "key was revoked")
        assert next(stream, None) is None
    assert len(server.headers) == 4


def test_a_refusal_at_first_is_tried_again_and_a_later_one_not() -> None:
    def refusing(
        header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
    ) -> Responses:
        fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")
        yield response()

    def too_long(
        header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
    ) -> Responses:
        yield started()
        fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too long", reason="STREAM_TOO_LONG")

    # Of encoded bytes nothing is kept, so a connection that was refused must not take any.
    server = Scripted(refusing, refusing, whole())
    with fake_server(MatchStream=server) as address, Client(address) as client:
        list(client.match_stream([b"first", b"last"], format=Encoded()))
    assert [audio.data for audio in server.audio[2]] == [b"first", b"last"]

    server = Scripted(refusing, refusing, too_long)
    with fake_server(MatchStream=server) as address, Client(address) as client:
        stream = client.match_stream([SECOND], format=Pcm(RATE_HZ))
        assert next(stream) == Started(1.0, False, 0)
        with pytest.raises(Busy) as caught:
            next(stream)
    assert caught.value.reason == "STREAM_TOO_LONG"
    assert len(server.headers) == 3
