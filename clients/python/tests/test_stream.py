"""Streams, against the real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audio import RATE_HZ, cut, silence, tune, wav
from earmark_client import (
    AudioLost,
    Busy,
    Client,
    Encoded,
    Event,
    Fingerprints,
    InvalidAudioOrArgument,
    MatchEnded,
    MatchStarted,
    MatchStream,
    MatchUpdated,
    Pcm,
    Progress,
    Started,
    StretchEvent,
)
from proxy import Proxy
from server_process import ServerProcess
from test_match import example_fingerprint

TUNE_S = 40


@pytest.fixture
def tunes(client: Client, tmp_path: Path) -> Client:
    """A client of a server whose catalog has two tunes."""
    for seed in (1, 2):
        path = tmp_path / f"{seed}.wav"
        path.write_bytes(wav(tune(seed, TUNE_S)))
        client.add_file(path, f"tune-{seed}", title=f"Tune {seed}")
    return client


def chunks(samples: bytes, chunk_s: float = 0.25) -> list[bytes]:
    step = 2 * int(chunk_s * RATE_HZ)
    return [samples[start : start + step] for start in range(0, len(samples), step)]


def programme() -> bytes:
    """Silence to 5 s, the first tune to 25 s, silence to 40 s, the second tune to 60 s."""
    return b"".join(
        [silence(5), cut(tune(1, TUNE_S), 10, 30), silence(15), cut(tune(2, TUNE_S), 0, 20)]
    )


def endless_silence() -> Iterator[bytes]:
    while True:
        time.sleep(0.05)
        yield silence(0.05)


def check_programme(events: list[Event]) -> None:
    """Each tune is told once, where it is."""
    starts = [event for event in events if isinstance(event, MatchStarted)]
    ends = [event for event in events if isinstance(event, MatchEnded)]
    assert [event.match.track_id for event in starts] == ["tune-1", "tune-2"]
    assert [event.match.track_id for event in ends] == ["tune-1", "tune-2"]
    assert [event.match_id for event in starts] == [event.match_id for event in ends] == [1, 2]
    for end, begins_s, ends_s, offset_s in zip(ends, (5, 40), (25, 60), (5, -40)):
        # How exactly is tested with the matcher.
        assert end.match.query_start_s == pytest.approx(begins_s, abs=2)
        assert end.match.query_end_s == pytest.approx(ends_s, abs=2)
        assert end.match.reference_offset_s == pytest.approx(offset_s, abs=0.2)


def test_a_programme_of_samples_is_told(tunes: Client) -> None:
    with tunes.match_stream(chunks(programme()), format=Pcm(RATE_HZ)) as stream:
        events = list(stream)
    assert events[0] == Started(0.0, False, 0)
    check_programme(events)
    silent = [event for event in events if isinstance(event, StretchEvent)]
    assert {event.kind for event in silent} == {"silent"}
    assert silent[0].start_s == pytest.approx(0, abs=0.5)
    assert silent[0].end_s is None
    ended = [event for event in silent if event.end_s is not None]
    assert [event.end_s for event in ended] == [
        pytest.approx(5, abs=2),
        pytest.approx(40, abs=2),
    ]
    updates = [event for event in events if isinstance(event, MatchUpdated)]
    assert all(event.match.title.startswith("Tune") for event in updates)
    assert [event.heard_s for event in events] == sorted(event.heard_s for event in events)
    assert any(isinstance(event, Progress) for event in events)
    assert not any(isinstance(event, AudioLost) for event in events)


def test_one_large_chunk_is_as_good_as_many(tunes: Client) -> None:
    check_programme(list(tunes.match_stream([programme()], format=Pcm(RATE_HZ))))


def test_times_count_from_the_start_that_is_given(tunes: Client) -> None:
    samples = cut(tune(1, TUNE_S), 0, 15)
    events = list(tunes.match_stream(chunks(samples), format=Pcm(RATE_HZ), start_ms=3_600_000))
    assert events[0] == Started(3600.0, False, 3_600_000)
    ends = [event.match for event in events if isinstance(event, MatchEnded)]
    assert [match.query_start_s for match in ends] == [pytest.approx(3600, abs=1)]


def test_encoded_bytes_are_heard(catalog_client: Client, testdata: Path) -> None:
    data = (testdata / "catalog" / "cold_day.mp3").read_bytes()
    pieces = [data[start : start + 5_000] for start in range(0, len(data), 5_000)]
    with catalog_client.match_stream(pieces, format=Encoded()) as stream:
        ended = [event.match for event in stream if isinstance(event, MatchEnded)]
    assert [match.track_id for match in ended] == ["cold_day"]
    assert ended[0].query_end_s == pytest.approx(30, abs=2)


def test_fingerprints_are_heard(client: Client) -> None:
    fingerprint = example_fingerprint()
    events = list(client.match_stream([fingerprint] * 20, format=Fingerprints(), start_ms=1_000))
    assert events[0] == Started(1.0, False, 1_000)
    assert not any(isinstance(event, (MatchStarted, AudioLost)) for event in events)
    assert events[-1].heard_s == pytest.approx(31.0)


def test_headers_and_audio_that_make_no_sense_are_refused(client: Client, testdata: Path) -> None:
    refused: list[tuple[str, Callable[[], MatchStream]]] = [
        ("sample_rate_hz", lambda: client.match_stream([], format=Pcm(5))),
        ("channel_count", lambda: client.match_stream([], format=Pcm(8000, channel_count=9))),
        ("max_gap_s", lambda: client.match_stream([], format=Pcm(8000), max_gap_s=13)),
        ("stream_id", lambda: client.match_stream([], format=Pcm(8000), stream_id="x" * 129)),
    ]
    for name, open_stream in refused:
        with pytest.raises(InvalidAudioOrArgument, match=name):
            list(open_stream())
    noise = [b"this is no audio" * 1000] * 100
    with pytest.raises(InvalidAudioOrArgument):
        list(client.match_stream(noise, format=Encoded()))
    foreign = [(testdata / "codecs" / "ac3.ac3").read_bytes()]
    with pytest.raises(InvalidAudioOrArgument, match="ffmpeg is only used for whole files"):
        list(client.match_stream(foreign, format=Encoded()))
    with pytest.raises(ValueError, match="encoding"):
        client.match_stream([], format=Pcm(8000, encoding="u8"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start_ms"):
        client.match_stream([], format=Pcm(8000), start_ms=2**32)


def test_a_stream_goes_on_when_its_connection_breaks(tunes: Client, server: ServerProcess) -> None:
    with Proxy(server.address) as proxy, Client(proxy.address) as client:

        def cut_meanwhile() -> Iterator[bytes]:
            for number, chunk in enumerate(chunks(programme())):
                if number in (60, 130, 131, 200):
                    # Not so fast that nothing was heard yet.
                    time.sleep(0.3)
                    proxy.cut()
                yield chunk

        with client.match_stream(cut_meanwhile(), format=Pcm(RATE_HZ)) as stream:
            events = list(stream)
        started = [event for event in events if isinstance(event, Started)]
        assert proxy.connection_count > 1
    assert [event.resumed for event in started] == [False] + [True] * (len(started) - 1)
    assert len(started) > 1
    check_programme(events)
    assert not any(isinstance(event, AudioLost) for event in events)


@pytest.mark.parametrize("end", [ServerProcess.kill, ServerProcess.stop])
def test_a_stream_goes_on_at_a_server_that_has_forgotten_it(
    tunes: Client, server: ServerProcess, end: Callable[[ServerProcess], None]
) -> None:
    def restart_meanwhile() -> Iterator[bytes]:
        for number, chunk in enumerate(chunks(programme())):
            if number == 160:
                # In the silence behind the first tune, and when that tune has been told.
                time.sleep(1)
                end(server)
                server.start()
            yield chunk

    with tunes.match_stream(restart_meanwhile(), format=Pcm(RATE_HZ)) as stream:
        events = list(stream)
    restarted = [i for i, event in enumerate(events) if isinstance(event, Started)]
    assert len(restarted) == 2
    assert events[restarted[1]] == Started(0.0, False, 0)
    # It is heard again, and told once.
    check_programme(events)
    silent = [event for event in events if isinstance(event, StretchEvent)]
    assert [event.end_s for event in silent if event.end_s is not None] == [
        pytest.approx(5, abs=2),
        pytest.approx(40, abs=2),
    ]
    times_s = [event.heard_s for event in events if not isinstance(event, Started)]
    assert times_s == sorted(times_s)


def test_a_second_process_goes_on_with_a_stream(tunes: Client, server: ServerProcess) -> None:
    samples = cut(tune(1, TUNE_S), 0, 30)
    with Proxy(server.address) as proxy, Client(proxy.address) as client:
        stream = client.match_stream(
            chunks(cut(samples, 0, 20)),
            format=Pcm(RATE_HZ),
            stream_id="radio",
            reconnect_s=0,
        )
        first = next(event for event in stream if isinstance(event, MatchStarted))
        proxy.cut()
        with pytest.raises(Busy):
            list(stream)
    events = list(
        tunes.match_stream(chunks(samples), format=Pcm(RATE_HZ), stream_id="radio", start_ms=0)
    )
    assert isinstance(events[0], Started)
    assert events[0].resumed
    assert [event.match_id for event in events if isinstance(event, MatchEnded)] == [first.match_id]


def test_streams_that_are_closed_leave_their_place_to_others(
    server_binary: str, tmp_path: Path
) -> None:
    with ServerProcess(server_binary, tmp_path / "index", "--streams-max", "1") as server:
        with Client(server.address, retries=0) as client:
            for _ in range(5):
                with client.match_stream(endless_silence(), format=Pcm(RATE_HZ)) as stream:
                    assert isinstance(next(stream), Started)
