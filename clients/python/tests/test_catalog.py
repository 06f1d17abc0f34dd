"""Adding, reading, listing and removing tracks, against the real server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

import pytest

from audio import tune, wav
from earmark_client import (
    Busy,
    Client,
    FailedPrecondition,
    InvalidAudioOrArgument,
    NotFound,
    RequestIdReused,
    TrackFields,
)
from proxy import Proxy
from server_process import ServerProcess
from test_source import wait_until

Answer = TypeVar("Answer")


def test_a_track_is_added_read_found_and_removed(client: Client, testdata: Path) -> None:
    path = testdata / "catalog" / "cold_day.mp3"
    added = client.add_file(
        path,
        "cold-1",
        title="Cold Day",
        artist="Ångström",
        album="Weather",
        isrc="XX0000000001",
        attributes={"policy": "block"},
    )
    assert added.change == "inserted"
    assert added.duplicate_of == ()
    track = added.track
    assert (track.track_id, track.title, track.artist) == ("cold-1", "Cold Day", "Ångström")
    assert (track.album, track.isrc) == ("Weather", "XX0000000001")
    assert track.attributes == {"policy": "block"}
    assert track.duration_s == pytest.approx(30.0, abs=0.3)
    assert len(track.content_hash) == 64
    assert track.posting_count > 0
    assert track.peak_count > 0
    assert abs(datetime.now(timezone.utc) - track.added_at) < timedelta(minutes=5)

    assert client.get_track("cold-1") == track
    best = client.match_file(testdata / "clips" / "cold_day_noisy.mp3").best
    assert best is not None
    assert (best.track_id, best.attributes) == ("cold-1", {"policy": "block"})

    assert client.remove_track("cold-1") == track
    assert client.match_file(testdata / "clips" / "cold_day_noisy.mp3").status == "no_match"
    for call in (client.get_track, client.remove_track):
        with pytest.raises(NotFound) as caught:
            call("cold-1")
        assert caught.value.code == "NOT_FOUND"
    with pytest.raises(InvalidAudioOrArgument):
        client.get_track("")


def test_adding_again_says_what_changed(client: Client, testdata: Path) -> None:
    cold_day = testdata / "catalog" / "cold_day.mp3"
    robot_dity = testdata / "catalog" / "robot_dity.ogg"
    assert client.add_file(cold_day, "a", title="A").change == "inserted"
    assert client.add_file(cold_day, "a", title="A").change == "unchanged"
    assert client.add_file(cold_day, "a", title="B").change == "metadata_updated"
    assert client.add_file(cold_day, "b").duplicate_of == ("a",)
    assert client.add_file(robot_dity, "a").change == "replaced"
    derived = client.add_file(robot_dity)
    assert derived.track.track_id not in ("", "a")
    assert client.add_file(robot_dity).track.track_id == derived.track.track_id


def test_large_files_arrive_whole(client: Client, testdata: Path, tmp_path: Path) -> None:
    # 1.7 MB in seven pieces, and one byte more than a piece.
    assert client.add_file(testdata / "catalog" / "mountain.flac").track.duration_s > 19.9
    path = tmp_path / "piece.wav"
    path.write_bytes(wav(tune(1, 30))[: 256 * 1024 + 1])
    expected_s = (256 * 1024 + 1 - 44) // 2 / 8000
    assert client.add_file(path).track.duration_s == pytest.approx(expected_s, abs=0.01)


def test_files_that_cannot_be_added_are_told(client: Client, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"this is no audio")
    empty = tmp_path / "empty.mp3"
    empty.write_bytes(b"")
    for path in (broken, empty):
        with pytest.raises(InvalidAudioOrArgument):
            client.add_file(path, "x")
    with pytest.raises(FileNotFoundError):
        client.add_file(tmp_path / "missing.mp3")
    with pytest.raises(InvalidAudioOrArgument):
        client.add_file(broken, "a\x00b")
    assert list(client.list_tracks()) == []


def test_a_file_that_breaks_off_while_it_is_read_is_not_stored(client: Client) -> None:
    # Opens, but reading its first bytes fails.
    unreadable = Path("/proc/self/mem")
    if not unreadable.exists():
        pytest.skip("this system has no file that can be opened and not read")
    with pytest.raises(OSError, match="Input/output error"):
        client.add_file(unreadable, "x")
    assert client.stats().track_count == 0


def test_an_ingest_goes_on_behind_broken_files(
    client: Client, testdata: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"this is no audio")
    cold_day = testdata / "catalog" / "cold_day.mp3"
    robot_dity = testdata / "catalog" / "robot_dity.ogg"
    paths = [broken, cold_day, tmp_path / "missing.mp3", tmp_path, robot_dity]

    def describe(path: Path) -> TrackFields:
        return {"track_id": path.stem, "attributes": {"file": path.name}}

    results = list(client.ingest(paths, describe, concurrency=2))
    assert [result.path for result in results] == paths
    assert [type(result.error) for result in results] == [
        InvalidAudioOrArgument,
        type(None),
        FileNotFoundError,
        IsADirectoryError,
        type(None),
    ]
    assert [result.added is None for result in results] == [True, False, True, True, False]
    assert [track.attributes["file"] for track in client.list_tracks()] == [
        "cold_day.mp3",
        "robot_dity.ogg",
    ]


def test_an_ingest_may_be_left_early(client: Client, testdata: Path) -> None:
    paths = sorted((testdata / "catalog").iterdir())
    for result in client.ingest(map(str, paths), concurrency=1):
        assert result.path == paths[0]
        break
    assert 1 <= client.stats().track_count < len(paths)


@pytest.mark.parametrize("page_size", [1, 5, 12, 1000])
def test_all_pages_are_listed(catalog_client: Client, testdata: Path, page_size: int) -> None:
    ids = [track.track_id for track in catalog_client.list_tracks(page_size=page_size)]
    assert ids == sorted(path.stem for path in (testdata / "catalog").iterdir())


def test_a_page_size_out_of_range_is_refused(catalog_client: Client) -> None:
    with pytest.raises(InvalidAudioOrArgument):
        next(catalog_client.list_tracks(page_size=1001))


def test_stats_count(catalog_client: Client, client: Client) -> None:
    stats = catalog_client.stats()
    assert stats.track_count == 12
    assert stats.duration_s == pytest.approx(350, abs=5)
    assert stats.posting_count > 0
    assert stats.peak_count > 0
    assert sum(stats.bytes_by_part.values()) > 0
    assert stats.format_version >= 2
    assert len(stats.params_digest) == 16
    assert stats.server_version
    assert stats.list_lengths is not None
    assert stats.list_lengths.list_count > 0
    assert stats.block_cache is not None
    assert stats.block_cache.bytes_max > 0
    empty = client.stats()
    assert (empty.track_count, empty.list_lengths) == (0, None)


def test_a_server_that_follows_refuses_changes(
    server: ServerProcess, server_binary: str, client: Client, testdata: Path, tmp_path: Path
) -> None:
    client.add_file(testdata / "catalog" / "cold_day.mp3", "cold_day")
    with ServerProcess(server_binary, tmp_path / "index", "--follow") as follower:
        with Client(follower.address) as reader:
            assert reader.get_track("cold_day").track_id == "cold_day"
            with pytest.raises(FailedPrecondition):
                reader.add_file(testdata / "catalog" / "robot_dity.ogg")


def test_a_server_that_starts_meanwhile_is_waited_for(server: ServerProcess) -> None:
    server.stop()
    with Client(server.address, retries=20) as client:
        starting = threading.Timer(0.5, server.start)
        starting.start()
        assert client.stats().track_count == 0
        starting.join()


def test_a_server_that_is_gone_is_told(server: ServerProcess) -> None:
    with Client(server.address, retries=1) as client:
        assert client.stats().track_count == 0
        server.kill()
        with pytest.raises(Busy) as caught:
            client.stats()
        assert caught.value.code == "UNAVAILABLE"


def with_lost_answer(proxy: Proxy, call: Callable[[], Answer], done: Callable[[], bool]) -> Answer:
    """Makes a call whose first answer is lost with its connection, once `done` says it was made."""
    proxy.loses_answers.set()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        try:
            wait_until(done, 20)
        finally:
            proxy.loses_answers.clear()
            proxy.cut()
        return future.result()


def test_changes_whose_answers_are_lost_are_made_once(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "tune.wav"
    path.write_bytes(wav(tune(1, 20)))
    client.add_file(path, "copy")

    def is_there() -> bool:
        return client.stats().track_count == 2

    with Proxy(server.address) as proxy, Client(proxy.address) as behind:
        assert behind.stats().track_count == 1
        added = with_lost_answer(proxy, lambda: behind.add_file(path, "a", title="A"), is_there)
        assert (added.change, added.duplicate_of) == ("inserted", ("copy",))
        removed = with_lost_answer(proxy, lambda: behind.remove_track("a"), lambda: not is_there())
        assert removed == added.track
    # By a name of the caller's own, and late: what others have removed stays so.
    again = client.add_file(path, "b", request_id="mine")
    client.remove_track("b")
    assert client.add_file(path, "b", request_id="mine") == again
    assert not is_there()
    with pytest.raises(RequestIdReused) as caught:
        client.add_file(path, "c", request_id="mine")
    assert caught.value.reason == "REQUEST_ID_REUSED"
