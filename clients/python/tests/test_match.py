"""Matching clips, against the real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from audio import silence, wav
from earmark_client import (
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidAudioOrArgument,
)
from server_process import ServerProcess


def example_fingerprint() -> bytes:
    """The fingerprint of 1.5 s that the documentation of formats shows, and the project checks."""
    document = Path(__file__).resolve().parents[3] / "docs" / "format.md"
    found = re.search(r"```text example:fingerprint\n([0-9a-f\n]+)```", document.read_text("utf-8"))
    assert found is not None
    return bytes.fromhex(found.group(1))


def test_a_noisy_clip_is_found_where_it_is(catalog_client: Client, testdata: Path) -> None:
    result = catalog_client.match_file(testdata / "clips" / "cold_day_noisy.mp3")
    assert result.status == "matched"
    assert result.duration_s == pytest.approx(10.0, abs=0.3)
    assert result.elapsed_ms > 0
    best = result.best
    assert best is not None
    assert best == result.matches[0]
    assert best.track_id == "cold_day"
    assert best.reference_offset_s == pytest.approx(12.0, abs=0.2)
    assert 0 <= best.query_start_s < best.query_end_s <= result.duration_s
    assert best.reference_start_s - best.query_start_s == pytest.approx(12.0, abs=0.2)
    assert best.score > 46
    assert best.confidence is not None
    assert 0.9 < best.confidence <= 1
    assert best.e_value is not None
    assert 0 <= best.e_value < 1e-4
    assert best.speed == pytest.approx(1.0, abs=0.01)
    assert best.pitch == pytest.approx(1.0, abs=0.01)
    assert hash(result) == hash(result)


@pytest.mark.parametrize("name", ["aac.aac", "flac.oga", "mp3.mp3", "opus.webm", "pcm_s24.wav"])
def test_codecs_are_found(catalog_client: Client, testdata: Path, name: str) -> None:
    best = catalog_client.match_bytes((testdata / "codecs" / name).read_bytes()).best
    assert best is not None
    assert best.track_id == "robot_dity"
    # The track repeats itself, so that its other places may fit better.
    places = [best.reference_start_s, *(other.reference_start_s for other in best.alternatives)]
    assert any(place - best.query_start_s == pytest.approx(10.0, abs=0.3) for place in places)
    assert best.alternatives == tuple(sorted(best.alternatives, key=lambda other: -other.score))


def test_no_match_silence_and_short_clips_are_answers(
    catalog_client: Client, testdata: Path
) -> None:
    foreign = catalog_client.match_file(str(testdata / "clips" / "not_in_catalog.mp3"))
    assert (foreign.status, foreign.matches, foreign.best) == ("no_match", (), None)
    assert catalog_client.match_bytes(wav(silence(5))).status == "silent"
    clip = (testdata / "codecs" / "pcm_s16.wav").read_bytes()
    assert catalog_client.match_bytes(clip[: 44 + 2 * 1600]).status == "too_short"


def test_options_are_passed_on(catalog_client: Client, testdata: Path) -> None:
    clip = testdata / "clips" / "cold_day_noisy.mp3"
    chosen = catalog_client.match_file(
        clip, max_matches=1, min_confidence=0.5, max_false_accepts=0.5, speed_search="off"
    )
    assert [match.track_id for match in chosen.matches] == ["cold_day"]
    out_of_range: dict[str, Any] = {
        "max_matches": 1001,
        "min_confidence": 1.5,
        "max_false_accepts": 0.0,
    }
    for name, value in out_of_range.items():
        with pytest.raises(InvalidAudioOrArgument, match=name):
            catalog_client.match_file(clip, **{name: value})
    with pytest.raises(ValueError, match="must be one of auto, off, full"):
        catalog_client.match_file(clip, speed_search="fast")  # type: ignore[arg-type]


def test_audio_that_is_none_is_refused(catalog_client: Client, testdata: Path) -> None:
    with pytest.raises(InvalidAudioOrArgument) as caught:
        catalog_client.match_bytes(b"this is no audio")
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.message
    assert str(caught.value) == f"INVALID_ARGUMENT: {caught.value.message}"
    with pytest.raises(InvalidAudioOrArgument):
        catalog_client.match_bytes(b"")
    with pytest.raises(FileNotFoundError):
        catalog_client.match_file(testdata / "clips" / "missing.mp3")


def test_fingerprints_are_matched_or_refused(catalog_client: Client) -> None:
    fingerprint = example_fingerprint()
    result = catalog_client.match_fingerprint(fingerprint)
    assert result.duration_s == pytest.approx(1.5)
    assert result.matches == ()
    with pytest.raises(InvalidAudioOrArgument):
        catalog_client.match_fingerprint(fingerprint[:-1])
    other_version = fingerprint[:4] + b"\x09" + fingerprint[5:]
    with pytest.raises(FailedPrecondition) as caught:
        catalog_client.match_fingerprint(other_version)
    assert caught.value.code == "FAILED_PRECONDITION"


def test_a_deadline_that_is_too_short_is_told(catalog_client: Client, testdata: Path) -> None:
    clip = (testdata / "catalog" / "mountain.flac").read_bytes()
    with pytest.raises(DeadlineExceeded):
        catalog_client.match_bytes(clip, timeout_s=0.01)
    with pytest.raises(ValueError, match="timeout_s"):
        catalog_client.match_bytes(clip, timeout_s=0)


def test_a_clip_that_is_too_large_is_refused(
    server_binary: str, tmp_path: Path, testdata: Path
) -> None:
    options = ("--message-max", "100KiB")
    with ServerProcess(server_binary, tmp_path / "index", *options) as server:
        with Client(server.address) as client, pytest.raises(InvalidAudioOrArgument) as caught:
            client.match_file(testdata / "catalog" / "mountain.flac")
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "TOO_LARGE")
    assert "larger" in caught.value.message
