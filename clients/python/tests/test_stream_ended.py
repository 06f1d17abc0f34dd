"""Ends of streams, early and late, by client, server and source: nobody is kept waiting."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from earmark_client import (
    Client,
    DeadlineExceeded,
    InvalidAudioOrArgument,
    MatchStream,
    Pcm,
    Progress,
    Started,
)
from earmark_client._generated.earmark.v1 import stream_pb2
from fake_server import fail, fake_server
from test_source import RATE_HZ, SECOND, wait_until
from test_stream_resumed import Requests, Responses, Scripted, response, started, whole


class Microphone:
    """An endless source, of which a chunk may take for ever."""

    def __init__(self, chunk_count: int) -> None:
        self.chunk_count = chunk_count
        self.goes_on = threading.Event()
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.taken += 1
            if self.taken > self.chunk_count:
                self.goes_on.wait()
            yield SECOND


def source_threads() -> int:
    return sum(thread.name == "earmark-stream-source" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = source_threads()
    yield
    wait_until(lambda: source_threads() <= before)


def ends_early(
    header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
) -> Responses:
    yield started()
    next(requests)


def refuses_early(
    header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
) -> Responses:
    yield started()
    next(requests)
    fail(context, grpc.StatusCode.INVALID_ARGUMENT, "no audio")


def never_starts(
    header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
) -> Responses:
    for _ in requests:
        pass
    yield started()


def never_ends(
    header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
) -> Responses:
    yield started()
    while context.is_active():
        time.sleep(0.01)


@pytest.mark.parametrize("chunk_count", [1, 10**9], ids=["a source that waits", "one that floods"])
def test_a_server_that_ends_early_ends_the_stream(chunk_count: int) -> None:
    microphone = Microphone(chunk_count)
    with fake_server(MatchStream=Scripted(ends_early)) as address, Client(address) as client:
        stream = client.match_stream(microphone, format=Pcm(RATE_HZ))
        assert list(stream) == [Started(1.0, False, 0)]
    microphone.goes_on.set()


@pytest.mark.parametrize("chunk_count", [1, 10**9], ids=["a source that waits", "one that floods"])
def test_a_server_that_refuses_early_is_told(chunk_count: int) -> None:
    microphone = Microphone(chunk_count)
    with fake_server(MatchStream=Scripted(refuses_early)) as address, Client(address) as client:
        stream = client.match_stream(microphone, format=Pcm(RATE_HZ))
        assert next(stream) == Started(1.0, False, 0)
        with pytest.raises(InvalidAudioOrArgument, match="no audio"):
            next(stream)
        assert next(stream, None) is None
    microphone.goes_on.set()


def test_a_server_that_does_not_accept_the_stream_is_given_up() -> None:
    with fake_server(MatchStream=Scripted(never_starts)) as address:
        with Client(address, timeout_s=0.3) as client:
            with pytest.raises(DeadlineExceeded, match=r"0\.3 s"):
                next(client.match_stream([SECOND], format=Pcm(RATE_HZ)))


def test_what_the_chunks_raise_comes_behind_the_last_event() -> None:
    def chunks() -> Iterator[bytes]:
        yield SECOND
        raise OSError("the microphone is gone")

    with fake_server(MatchStream=Scripted(whole())) as address, Client(address) as client:
        stream = client.match_stream(chunks(), format=Pcm(RATE_HZ))
        assert [type(next(stream)) for _ in range(2)] == [Started, Progress]
        with pytest.raises(OSError, match="the microphone is gone"):
            next(stream)
        assert next(stream, None) is None


def test_a_closed_stream_is_over_and_the_server_knows() -> None:
    microphone = Microphone(1)
    server = Scripted(whole())
    with fake_server(MatchStream=server) as address, Client(address) as client:
        with client.match_stream(microphone, format=Pcm(RATE_HZ)) as stream:
            next(stream)
            wait_until(lambda: len(server.audio[0]) == 1)
        assert list(stream) == []
        stream.close()
        assert server.endings == ["whole"]
    microphone.goes_on.set()


def test_a_stream_may_be_closed_before_it_began() -> None:
    with Client("127.0.0.1:1") as client:
        stream = client.match_stream([SECOND], format=Pcm(RATE_HZ))
        stream.close()
        assert list(stream) == []


def test_a_server_that_does_not_end_is_left_when_a_stream_is_closed() -> None:
    with fake_server(MatchStream=Scripted(never_ends)) as address, Client(address) as client:
        stream = client.match_stream([SECOND], format=Pcm(RATE_HZ))
        next(stream)
        start_s = time.monotonic()
        stream.close()
        assert time.monotonic() - start_s < 4


def close_later(stream: MatchStream) -> threading.Timer:
    closing = threading.Timer(0.2, stream.close)
    closing.start()
    return closing


def test_a_stream_is_closed_while_an_event_is_waited_for() -> None:
    microphone = Microphone(1)
    with fake_server(MatchStream=Scripted(whole())) as address, Client(address) as client:
        stream = client.match_stream(microphone, format=Pcm(RATE_HZ))
        closing = close_later(stream)
        assert list(stream) == [Started(1.0, False, 0)]
        closing.join()
    microphone.goes_on.set()


def test_a_stream_is_closed_while_its_server_is_away() -> None:
    with Client("127.0.0.1:1", retries=10**6) as client:
        stream = client.match_stream([SECOND], format=Pcm(RATE_HZ))
        closing = close_later(stream)
        start_s = time.monotonic()
        assert list(stream) == []
        assert time.monotonic() - start_s < 3
        closing.join()


def test_a_stream_that_nobody_holds_ends() -> None:
    microphone = Microphone(10**9)
    server = Scripted(whole())
    with fake_server(MatchStream=server) as address, Client(address) as client:
        for event in client.match_stream(microphone, format=Pcm(RATE_HZ)):
            assert event == Started(1.0, False, 0)
            wait_until(lambda: len(server.audio[0]) > 0)
            break
        gc.collect()
        wait_until(lambda: len(server.endings) > 0)


def test_a_client_that_is_closed_ends_its_streams() -> None:
    microphone = Microphone(1)
    with fake_server(MatchStream=Scripted(whole())) as address:
        client = Client(address)
        stream = client.match_stream(microphone, format=Pcm(RATE_HZ))
        next(stream)
        client.close()
        with pytest.raises(Exception, match="CANCELLED"):
            next(stream)
    microphone.goes_on.set()


def test_events_of_an_endless_stream_come_while_it_goes_on() -> None:
    def echo(
        header: stream_pb2.StreamHeader, requests: Requests, context: grpc.ServicerContext
    ) -> Responses:
        yield started()
        for _ in requests:
            yield response(progress=stream_pb2.StreamProgress())

    microphone = Microphone(3)
    with fake_server(MatchStream=Scripted(echo)) as address, Client(address) as client:
        with client.match_stream(microphone, format=Pcm(RATE_HZ)) as stream:
            events = [next(stream) for _ in range(4)]
    assert [type(event) for event in events] == [Started, Progress, Progress, Progress]
    microphone.goes_on.set()
