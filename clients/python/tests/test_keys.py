"""Keys, against the real server."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import pytest

from audio import RATE_HZ, silence, tune, wav
from earmark_client import (
    Busy,
    Client,
    EarmarkError,
    Pcm,
    PermissionDenied,
    Started,
    Unauthenticated,
)
from key_file import KeyFile, key_id, secret
from server_process import ServerProcess
from test_source import wait_until
from test_stream import endless_silence

Call = Callable[[Client], object]

# As long as the server may take to read its keys again, and a slow machine for everything else.
_REREAD_S = 30.0

CLIP = wav(tune(3, 10))


@pytest.fixture
def keys(earmark_binary: str, tmp_path: Path) -> KeyFile:
    return KeyFile(earmark_binary, tmp_path / "keys.toml")


@pytest.fixture
def ingest_key(keys: KeyFile) -> str:
    return keys.create("ingest")


@pytest.fixture
def match_key(keys: KeyFile) -> str:
    return keys.create("match")


@pytest.fixture
def server(
    server_binary: str, tmp_path: Path, keys: KeyFile, ingest_key: str, match_key: str
) -> Iterator[ServerProcess]:
    """A server with an empty catalog, which wants one of the keys."""
    with ServerProcess(server_binary, tmp_path / "index", *keys.options) as process:
        yield process


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    path.write_bytes(CLIP)
    return path


def match(client: Client) -> object:
    return client.match_bytes(CLIP)


def follow(client: Client) -> object:
    return list(client.match_stream([silence(1)], format=Pcm(RATE_HZ)))


def calls(clip: Path) -> list[Call]:
    """One of each kind: with one message, and with many of the client's, or of both."""
    return [Client.stats, match, lambda client: client.add_file(clip), follow]


def test_without_a_key_nobody_gets_in(server: ServerProcess, clip: Path) -> None:
    for call in calls(clip):
        with Client(server.address) as client, pytest.raises(Unauthenticated) as caught:
            call(client)
        assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "KEY_MISSING")
        assert "wants a key" in caught.value.message
        assert caught.value.retry_after_s is None


def told(error: EarmarkError) -> str:
    """All that is printed of an error that nobody catches."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def test_wrong_keys_are_told_and_not_shown(
    server: ServerProcess, match_key: str, clip: Path
) -> None:
    guessed = f"earmark_{key_id(match_key)}_{'0' * 64}"
    unknown = f"earmark_00000000_{secret(match_key)}"
    for key in (guessed, unknown, "hush-hush"):
        for call in calls(clip):
            with Client(server.address, token=key) as client:
                with pytest.raises(Unauthenticated) as caught:
                    call(client)
                shown = f"{client!r} {caught.value!r} {told(caught.value)}"
            assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "KEY_INVALID")
            assert "key" in caught.value.message
            assert secret(match_key) not in shown
            assert key not in shown


def test_a_key_allows_what_it_is_for(
    server: ServerProcess, keys: KeyFile, match_key: str, ingest_key: str, clip: Path
) -> None:
    stats, match, add, follow = calls(clip)
    both = keys.create("match,ingest")
    allowed: list[tuple[str, list[Call], list[Call]]] = [
        (match_key, [stats, match, follow], [add]),
        (ingest_key, [stats, add], [match, follow]),
        (both, [stats, match, add, follow], []),
    ]
    for key, may, may_not in allowed:
        # The key as it was read from a file, with its line end.
        assert key.endswith("\n")
        with Client(server.address, token=key) as client:
            # One that was made while the server runs is known within some seconds.
            wait_until(lambda: succeeds(stats, client), _REREAD_S)
            for call in may:
                call(client)
            for call in may_not:
                with pytest.raises(PermissionDenied) as caught:
                    call(client)
                assert caught.value.code == "PERMISSION_DENIED"
                assert caught.value.reason == "SCOPE_MISSING"
                wanted = "ingest" if key == match_key else "match"
                assert f"of scope {wanted}" in caught.value.message
                assert key_id(key) in caught.value.message
                assert secret(key) not in str(caught.value)


def succeeds(call: Call, client: Client) -> bool:
    try:
        call(client)
    except EarmarkError:
        return False
    return True


def test_each_file_says_what_its_key_lacks(
    server: ServerProcess, match_key: str, clip: Path
) -> None:
    with Client(server.address, token=match_key) as client:
        results = list(client.ingest([clip, clip]))
    assert [type(result.error) for result in results] == [PermissionDenied, PermissionDenied]


def test_calls_wait_for_the_rate_of_their_key(
    server_binary: str, tmp_path: Path, keys: KeyFile
) -> None:
    quick, slow = keys.create("match", "--rate", "2"), keys.create("match", "--rate", "0.05")
    with ServerProcess(server_binary, tmp_path / "index", *keys.options) as server:
        with Client(server.address, token=quick) as client:
            start_s = time.monotonic()
            for _ in range(6):
                client.stats()
            # Two come at once, and each of the others half a second after the one before.
            assert time.monotonic() - start_s >= 1.9
        with Client(server.address, token=slow, timeout_s=10) as client:
            client.stats()
            start_s = time.monotonic()
            with pytest.raises(Busy) as caught:
                client.stats()
            # The pause would not fit before the deadline.
            assert time.monotonic() - start_s < 5
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "KEY_LIMIT")
    assert caught.value.retry_after_s is not None
    assert 10 < caught.value.retry_after_s <= 20
    assert key_id(slow) in caught.value.message


def test_calls_wait_for_a_place_of_their_key(
    server_binary: str, tmp_path: Path, keys: KeyFile
) -> None:
    key = keys.create("match", "--concurrent", "1")
    with ServerProcess(server_binary, tmp_path / "index", *keys.options) as server:
        with Client(server.address, token=key) as client:
            first = client.match_stream(endless_silence(), format=Pcm(RATE_HZ))
            assert isinstance(next(first), Started)
            with Client(server.address, token=key, retries=0) as impatient:
                with pytest.raises(Busy) as caught:
                    impatient.stats()
            assert (caught.value.reason, caught.value.retry_after_s) == ("KEY_LIMIT", 1)
            closing = Timer(0.5, first.close)
            closing.start()
            with client.match_stream(endless_silence(), format=Pcm(RATE_HZ)) as second:
                assert isinstance(next(second), Started)
            closing.join()
            client.stats()


def test_a_stream_ends_when_its_key_is_revoked(
    server: ServerProcess, keys: KeyFile, match_key: str
) -> None:
    other = keys.create("match")
    with Client(server.address, token=match_key) as client:
        stream = client.match_stream(endless_silence(), format=Pcm(RATE_HZ))
        assert isinstance(next(stream), Started)
        keys.revoke(match_key)
        start_s = time.monotonic()
        with pytest.raises(Unauthenticated) as caught:
            list(stream)
        assert time.monotonic() - start_s < _REREAD_S
        assert caught.value.reason == "KEY_INVALID"
        assert "revoked" in caught.value.message
        # It is over, and not connected again.
        assert next(stream, None) is None
        with pytest.raises(Unauthenticated, match="revoked"):
            client.stats()
    with Client(server.address, token=other) as client:
        assert client.stats().track_count == 0
