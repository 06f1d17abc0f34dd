"""Retries and errors, against a server that fails as it is told."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from earmark_client import (
    Aborted,
    Busy,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    EarmarkError,
    FailedPrecondition,
    InvalidAudioOrArgument,
    NotFound,
    PermissionDenied,
    RequestIdReused,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from earmark_client._generated.earmark.v1 import catalog_pb2, match_pb2
from earmark_client._retry import Backoff
from fake_server import fail, fake_server
from test_source import wait_until

ANSWER = match_pb2.MatchResponse(status=match_pb2.MATCH_STATUS_NO_MATCH)


class Refusing:
    """Fails the first calls, and answers those behind them."""

    def __init__(self, count: int, code: grpc.StatusCode, **details: Any) -> None:
        self.count = count
        self.code = code
        self.details = details
        self.times_s: list[float] = []

    def __call__(
        self, request: match_pb2.MatchRequest, context: grpc.ServicerContext
    ) -> match_pb2.MatchResponse:
        self.times_s.append(time.monotonic())
        if len(self.times_s) <= self.count:
            fail(context, self.code, **self.details)
        return ANSWER


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_what_may_be_over_soon_is_tried_again(code: grpc.StatusCode) -> None:
    match = Refusing(2, code)
    with fake_server(Match=match) as address, Client(address) as client:
        assert client.match_bytes(b"clip").status == "no_match"
    assert len(match.times_s) == 3


def test_retries_are_counted() -> None:
    match = Refusing(9, grpc.StatusCode.RESOURCE_EXHAUSTED, message="server is busy")
    with fake_server(Match=match) as address:
        with Client(address, retries=2) as client, pytest.raises(Busy) as caught:
            client.match_bytes(b"clip")
        assert len(match.times_s) == 3
        assert (caught.value.code, caught.value.message) == ("RESOURCE_EXHAUSTED", "server is busy")
        assert (caught.value.reason, caught.value.retry_after_s) == (None, None)
        with Client(address, retries=0) as client, pytest.raises(Busy):
            client.match_bytes(b"clip")
        assert len(match.times_s) == 4


@pytest.mark.parametrize("reason", [None, "SERVER_BUSY", "KEY_LIMIT"])
def test_the_pause_that_the_server_asks_for_is_kept(reason: str | None) -> None:
    match = Refusing(1, grpc.StatusCode.RESOURCE_EXHAUSTED, reason=reason, retry_after_s=0.7)
    with fake_server(Match=match) as address, Client(address) as client:
        client.match_bytes(b"clip")
    assert match.times_s[1] - match.times_s[0] >= 0.7


def test_a_pause_beyond_the_deadline_is_not_waited_for() -> None:
    match = Refusing(9, grpc.StatusCode.RESOURCE_EXHAUSTED, reason="TOO_MANY", retry_after_s=30.25)
    with fake_server(Match=match) as address, Client(address) as client:
        start_s = time.monotonic()
        with pytest.raises(Busy) as caught:
            client.match_bytes(b"clip", timeout_s=20)
        assert time.monotonic() - start_s < 10
    assert caught.value.reason == "TOO_MANY"
    assert caught.value.retry_after_s == pytest.approx(30.25)
    assert len(match.times_s) == 1


def test_the_deadline_holds_for_all_tries() -> None:
    match = Refusing(10**6, grpc.StatusCode.UNAVAILABLE)
    with fake_server(Match=match) as address, Client(address, retries=10**6) as client:
        start_s = time.monotonic()
        with pytest.raises((Busy, DeadlineExceeded)):
            client.match_bytes(b"clip", timeout_s=1.5)
        assert time.monotonic() - start_s < 10
    assert len(match.times_s) > 1


def test_a_client_that_is_closed_waits_no_longer() -> None:
    match = Refusing(9, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=30)
    with fake_server(Match=match) as address:
        client = Client(address)
        closing = threading.Timer(0.2, client.close)
        closing.start()
        start_s = time.monotonic()
        with pytest.raises(Busy):
            client.match_bytes(b"clip")
        assert time.monotonic() - start_s < 10
        closing.join()


def test_a_server_that_comes_up_in_time_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answered = threading.Event()

    def come_up() -> None:
        # Longer than a few retries take.
        time.sleep(4)
        with fake_server(port=port, Match=Refusing(0, grpc.StatusCode.OK)):
            answered.wait(60)

    server = threading.Thread(target=come_up)
    server.start()
    try:
        with Client(f"127.0.0.1:{port}", retries=1) as client:
            assert client.match_bytes(b"clip").status == "no_match"
    finally:
        answered.set()
        server.join()


def test_a_server_that_is_not_there_is_told_at_the_deadline() -> None:
    for options, least_s in (({"retries": 0}, 0.0), ({"timeout_s": 4.5}, 2.0)):
        start_s = time.monotonic()
        with Client("127.0.0.1:1", **options) as client, pytest.raises(Busy) as caught:
            client.stats()
        assert type(caught.value) is Unavailable
        assert "no server can be reached" in caught.value.message
        assert least_s <= time.monotonic() - start_s < 10


def test_pauses_grow_to_a_limit() -> None:
    backoff = Backoff(None, time.monotonic() + 1e6)
    longest_s = [0.5, 1, 2, 4, 8, 8, 8, 8]
    for limit_s in longest_s:
        pause_s = backoff.pause_s(Busy("", "UNAVAILABLE"))
        assert pause_s is not None
        assert 0 <= pause_s <= limit_s


def test_what_does_not_fit_together_is_not_tried_again() -> None:
    backoff = Backoff(None, time.monotonic() + 1e6)
    assert backoff.pause_s(ConnectionFailed("", "UNAVAILABLE")) is None


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        ("INVALID_ARGUMENT", InvalidAudioOrArgument),
        ("NOT_FOUND", NotFound),
        ("DEADLINE_EXCEEDED", DeadlineExceeded),
        ("UNAUTHENTICATED", Unauthenticated),
        ("PERMISSION_DENIED", PermissionDenied),
        ("FAILED_PRECONDITION", FailedPrecondition),
        ("ABORTED", Aborted),
        ("INTERNAL", ServerError),
        ("DATA_LOSS", ServerError),
        ("UNIMPLEMENTED", ServerError),
    ],
)
def test_other_errors_are_told_at_once(code: str, error_class: type[EarmarkError]) -> None:
    match = Refusing(1, grpc.StatusCode[code], message="told", reason="WHY")
    with fake_server(Match=match) as address, Client(address) as client:
        with pytest.raises(EarmarkError) as caught:
            client.match_bytes(b"clip")
    assert type(caught.value) is error_class
    assert (caught.value.code, caught.value.message, caught.value.reason) == (code, "told", "WHY")
    assert len(match.times_s) == 1
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (type(copied), str(copied), copied.reason) == (error_class, f"{code}: told", "WHY")


@pytest.mark.parametrize(
    ("reason", "error_class"),
    [
        ("TOO_LARGE", InvalidAudioOrArgument),
        ("STORAGE_FULL", ServerError),
        ("REQUEST_ID_REUSED", RequestIdReused),
        ("KEY_LIMIT", Busy),
        ("ANOTHER", Busy),
    ],
)
def test_what_no_pause_helps_with_is_told_at_once(
    reason: str, error_class: type[EarmarkError]
) -> None:
    match = Refusing(9, grpc.StatusCode.RESOURCE_EXHAUSTED, reason=reason)
    with fake_server(Match=match) as address, Client(address) as client:
        with pytest.raises(EarmarkError) as caught:
            client.match_bytes(b"clip")
    assert type(caught.value) is error_class
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", reason)
    assert len(match.times_s) == 1


def test_details_that_cannot_be_read_do_not_hide_the_error() -> None:
    def match(request: match_pb2.MatchRequest, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    with fake_server(Match=match) as address, Client(address) as client:
        with pytest.raises(NotFound) as caught:
            client.match_bytes(b"clip")
    assert (caught.value.message, caught.value.reason) == ("gone", None)


def test_uploads_are_sent_again_from_the_start(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    path = tmp_path / "track"
    path.write_bytes(data)
    uploads: list[list[catalog_pb2.AddTrackRequest]] = []

    def add_track(
        requests: Iterator[catalog_pb2.AddTrackRequest], context: grpc.ServicerContext
    ) -> catalog_pb2.AddTrackResponse:
        received: list[catalog_pb2.AddTrackRequest] = []
        uploads.append(received)
        for request in requests:
            received.append(request)
            if len(uploads) == 1 and len(received) == 3:
                fail(context, grpc.StatusCode.UNAVAILABLE)
        if len(uploads) == 2:
            fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED)
        return catalog_pb2.AddTrackResponse()

    with fake_server(AddTrack=add_track) as address, Client(address) as client:
        added = client.add_file(path, "id", title="Title")
    assert added.change == "unspecified"
    assert [len(upload) for upload in uploads] == [3, 5, 5]
    assert len(uploads[0][0].header.request_id) == 32
    for upload in uploads[1:]:
        assert upload[0].header.track_id == "id"
        assert upload[0].header.metadata.title == "Title"
        assert upload[0].header.request_id == uploads[0][0].header.request_id
        assert b"".join(request.data for request in upload) == data
        assert max(len(request.data) for request in upload) == 256 * 1024


def test_an_upload_that_is_given_up_never_ends_as_if_it_were_whole(tmp_path: Path) -> None:
    path = tmp_path / "track"
    path.write_bytes(bytes(64 * 1024 * 1024))
    ends: list[str] = []

    def add_track(
        requests: Iterator[catalog_pb2.AddTrackRequest], context: grpc.ServicerContext
    ) -> catalog_pb2.AddTrackResponse:
        try:
            for _ in requests:
                time.sleep(0.05)
        finally:
            # The requests of a cancelled call may just end.
            ends.append("whole" if context.is_active() else "cancelled")
        return catalog_pb2.AddTrackResponse()

    with fake_server(AddTrack=add_track) as address, Client(address) as client:
        with pytest.raises(DeadlineExceeded):
            client.add_file(path, timeout_s=0.5)
        wait_until(lambda: len(ends) > 0)
    assert ends == ["cancelled"]
