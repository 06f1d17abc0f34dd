"""The audio of a stream: how it is cut, kept, sent again and waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from earmark_client import Encoded, Fingerprints, Pcm
from earmark_client._source import Cutter, Source
from test_match import example_fingerprint

RATE_HZ = 8000
SECOND = bytes(range(250)) * 64
assert len(SECOND) == 2 * RATE_HZ


def wait_until(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it does not come true"
        time.sleep(0.005)


def take_all(source: Source, taker: int) -> list[tuple[int, bytes]]:
    pieces = iter(lambda: source.take(taker), None)
    return [(piece.start, piece.data) for piece in pieces if piece is not None]


def test_samples_are_cut_between_frames() -> None:
    cutter = Cutter(Pcm(RATE_HZ, channel_count=2, encoding="s24"))
    data = bytes(range(240))
    pieces = [piece for start in range(0, 240, 7) for piece in cutter.cut(data[start : start + 7])]
    assert b"".join(piece.data for piece in pieces) == data
    assert all(len(piece.data) == 6 * piece.length for piece in pieces)
    ends = [0, *(piece.start + piece.length for piece in pieces)]
    assert [piece.start for piece in pieces] == ends[:-1]
    assert list(cutter.cut(bytearray(5))) == []
    assert [piece.length for piece in cutter.cut(memoryview(bytes(1)))] == [1]


def test_large_chunks_become_pieces() -> None:
    for audio_format in (Pcm(RATE_HZ), Encoded()):
        data = SECOND * 60
        pieces = list(Cutter(audio_format).cut(data))
        assert max(len(piece.data) for piece in pieces) <= 256 * 1024
        assert b"".join(piece.data for piece in pieces) == data


def test_fingerprints_say_how_long_they_are() -> None:
    cutter = Cutter(Fingerprints())
    fingerprint = example_fingerprint()
    pieces = [*cutter.cut(fingerprint), *cutter.cut(fingerprint)]
    assert [(piece.start, piece.length) for piece in pieces] == [(0, 1500), (1500, 1500)]
    for bad in (b"", fingerprint[:40], b"RIFF" + fingerprint):
        with pytest.raises(ValueError, match="no fingerprint"):
            list(cutter.cut(bad))


def test_a_minute_that_was_sent_is_kept_and_sent_again() -> None:
    source = Source([SECOND] * 100, Pcm(RATE_HZ))
    source.start()
    taker = source.new_taker()
    assert [start for start, _ in take_all(source, taker)] == list(range(0, 800_000, RATE_HZ))
    assert source.oldest == 40 * RATE_HZ
    source.rewind(70 * RATE_HZ + 1)
    assert [start for start, _ in take_all(source, taker)] == list(
        range(70 * RATE_HZ, 100 * RATE_HZ, RATE_HZ)
    )
    source.rewind(0)
    assert len(take_all(source, taker)) == 60
    source.rewind(10**9)
    assert take_all(source, taker) == []


def test_chunks_are_read_a_minute_ahead_at_most() -> None:
    read: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield SECOND

    source = Source(chunks(), Pcm(RATE_HZ))
    source.start()
    wait_until(lambda: len(read) >= 61)
    time.sleep(0.1)
    assert len(read) == 61
    taker = source.new_taker()
    source.take(taker)
    wait_until(lambda: len(read) == 62)
    source.close()
    assert source.take(taker) is None


def test_nothing_is_kept_of_encoded_bytes() -> None:
    source = Source([b"a", b"b", b"c"], Encoded())
    source.start()
    taker = source.new_taker()
    assert [data for _, data in take_all(source, taker)] == [b"a", b"b", b"c"]
    assert source._pieces == type(source._pieces)()


def test_a_new_taker_ends_the_waiting_of_the_old_one() -> None:
    goes_on = threading.Event()

    def waiting_chunks() -> Iterator[bytes]:
        goes_on.wait()
        yield SECOND

    source = Source(waiting_chunks(), Pcm(RATE_HZ))
    source.start()
    taken: list[object] = []
    old = source.new_taker()
    waiting = threading.Thread(target=lambda: taken.append(source.take(old)))
    waiting.start()
    time.sleep(0.05)
    assert taken == []
    source.new_taker()
    waiting.join(5)
    assert taken == [None]
    goes_on.set()


def test_what_the_chunks_raise_is_kept_and_their_generator_closed() -> None:
    closed = threading.Event()

    def failing() -> Iterator[bytes]:
        yield SECOND
        raise OSError("the microphone is gone")

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield SECOND
        finally:
            closed.set()

    source = Source(failing(), Pcm(RATE_HZ))
    source.start()
    assert len(take_all(source, source.new_taker())) == 1
    assert str(source.error) == "the microphone is gone"
    left = Source(endless(), Pcm(RATE_HZ))
    left.start()
    left.close()
    assert closed.wait(5)
