"""Between the messages of `earmark.v1` and the types of this package, field by field."""

from __future__ import annotations

from datetime import timezone
from typing import Literal, get_args

from ._generated.earmark.v1 import catalog_pb2, match_pb2, stream_pb2, track_pb2
from .events import (
    AudioLost,
    Encoded,
    Event,
    Format,
    MatchEnded,
    MatchStarted,
    MatchUpdated,
    Pcm,
    PcmEncoding,
    Progress,
    Started,
    StretchEvent,
)
from .results import (
    Added,
    Alternative,
    BlockCache,
    Gap,
    ListLengths,
    Match,
    MatchResult,
    SegmentClass,
    Stats,
    Track,
)

SpeedSearch = Literal["auto", "off", "full"]

# Enumerations are looked up by number, so that a number of a newer server is no error.
_STATUSES = {
    match_pb2.MATCH_STATUS_MATCHED: "matched",
    match_pb2.MATCH_STATUS_NO_MATCH: "no_match",
    match_pb2.MATCH_STATUS_TOO_SHORT: "too_short",
    match_pb2.MATCH_STATUS_SILENT: "silent",
}
_CHANGES = {
    catalog_pb2.AddTrackResponse.CHANGE_INSERTED: "inserted",
    catalog_pb2.AddTrackResponse.CHANGE_REPLACED: "replaced",
    catalog_pb2.AddTrackResponse.CHANGE_METADATA_UPDATED: "metadata_updated",
    catalog_pb2.AddTrackResponse.CHANGE_UNCHANGED: "unchanged",
}
_STRETCH_KINDS = {
    stream_pb2.Stretch.KIND_SILENT: "silent",
    stream_pb2.Stretch.KIND_UNKNOWN: "unknown",
}
_UNSPECIFIED = "unspecified"


def _chosen(name: str, value: str, values: tuple[str, ...]) -> str:
    if value not in values:
        raise ValueError(f"{name} is {value!r}, it must be one of {', '.join(values)}")
    return value.upper()


def _speed_search(value: SpeedSearch) -> str:
    return "SPEED_SEARCH_" + _chosen("speed_search", value, get_args(SpeedSearch))


def match_options(
    max_matches: int | None,
    min_confidence: float | None,
    max_false_accepts: float | None,
    speed_search: SpeedSearch,
) -> match_pb2.MatchOptions:
    """The options of a search; None means the server's default.

    Raises ValueError if `speed_search` is no such name.
    """
    return match_pb2.MatchOptions(
        max_matches=max_matches,
        min_confidence=min_confidence,
        max_false_accepts=max_false_accepts,
        speed_search=_speed_search(speed_search),
    )


def stream_options(
    max_false_events: float | None,
    min_confidence: float | None,
    speed_search: SpeedSearch,
    update_interval_s: int | None,
    max_gap_s: int | None,
    silence_db: float | None,
) -> stream_pb2.StreamOptions:
    """The options of a stream; None means the server's default.

    Raises ValueError if `speed_search` is no such name.
    """
    return stream_pb2.StreamOptions(
        max_false_events=max_false_events,
        min_confidence=min_confidence,
        speed_search=_speed_search(speed_search),
        update_interval_s=update_interval_s,
        max_gap_s=max_gap_s,
        silence_db=silence_db,
    )


def stream_header(
    audio_format: Format, options: stream_pb2.StreamOptions, stream_id: str
) -> stream_pb2.StreamHeader:
    """The first message of a stream. Raises ValueError if `encoding` is no such name."""
    header = stream_pb2.StreamHeader(options=options, stream_id=stream_id)
    if isinstance(audio_format, Pcm):
        encoding = _chosen("encoding", audio_format.encoding, get_args(PcmEncoding))
        header.pcm.CopyFrom(
            stream_pb2.PcmFormat(
                sample_rate_hz=audio_format.sample_rate_hz,
                channel_count=audio_format.channel_count,
                encoding="ENCODING_" + encoding,
            )
        )
    elif isinstance(audio_format, Encoded):
        header.encoded.SetInParent()
    else:
        header.fingerprint.SetInParent()
    return header


def _match(message: match_pb2.Match) -> Match:
    metadata = message.metadata
    return Match(
        track_id=message.track_id,
        title=metadata.title,
        artist=metadata.artist,
        album=metadata.album,
        isrc=metadata.isrc,
        attributes=dict(metadata.attributes),
        score=message.score,
        confidence=message.confidence if message.HasField("confidence") else None,
        e_value=message.e_value if message.HasField("e_value") else None,
        query_start_s=message.query_start_s,
        query_end_s=message.query_end_s,
        reference_start_s=message.reference_start_s,
        reference_end_s=message.reference_end_s,
        reference_offset_s=message.reference_offset_s,
        speed=message.speed if message.HasField("speed") else None,
        pitch=message.pitch if message.HasField("pitch") else None,
        gaps=tuple(Gap(gap.query_start_s, gap.query_end_s) for gap in message.gaps),
        alternatives=tuple(
            Alternative(other.reference_start_s, other.reference_end_s, other.score)
            for other in message.alternatives
        ),
    )


def match_result(message: match_pb2.MatchResponse) -> MatchResult:
    """The answer to one clip."""
    return MatchResult(
        status=_STATUSES.get(message.status, _UNSPECIFIED),
        matches=tuple(_match(match) for match in message.matches),
        duration_s=message.duration_s,
        elapsed_ms=message.elapsed_ms,
    )


def track(message: track_pb2.Track) -> Track:
    """A stored recording."""
    metadata = message.metadata
    return Track(
        track_id=message.track_id,
        title=metadata.title,
        artist=metadata.artist,
        album=metadata.album,
        isrc=metadata.isrc,
        attributes=dict(metadata.attributes),
        duration_s=message.duration_s,
        content_hash=message.content_hash,
        posting_count=message.posting_count,
        peak_count=message.peak_count,
        added_at=message.added_at.ToDatetime(tzinfo=timezone.utc),
    )


def added(message: catalog_pb2.AddTrackResponse) -> Added:
    """What adding a track did."""
    return Added(
        track=track(message.track),
        change=_CHANGES.get(message.change, _UNSPECIFIED),
        duplicate_of=tuple(message.duplicate_of),
    )


def stats(message: catalog_pb2.GetStatsResponse) -> Stats:
    """Sizes and counts of the index."""
    lengths, cache = message.list_lengths, message.block_cache
    return Stats(
        track_count=message.track_count,
        duration_s=message.duration_s,
        posting_count=message.posting_count,
        peak_count=message.peak_count,
        bytes_by_part=dict(message.bytes_by_part),
        format_version=message.format_version,
        params_digest=message.params_digest,
        server_version=message.server_version,
        purgeable_posting_count=message.purgeable_posting_count,
        buffered_posting_count=message.buffered_posting_count,
        segments_by_size=tuple(
            SegmentClass(size.postings_min, size.segment_count, size.posting_count)
            for size in message.segments_by_size
        ),
        list_lengths=ListLengths(
            list_count=lengths.list_count,
            median=lengths.median,
            p90=lengths.p90,
            p99=lengths.p99,
            p999=lengths.p999,
            longest=lengths.longest,
        )
        if message.HasField("list_lengths")
        else None,
        block_cache=BlockCache(
            hit_count=cache.hit_count,
            miss_count=cache.miss_count,
            block_count=cache.block_count,
            bytes=cache.bytes,
            bytes_max=cache.bytes_max,
        )
        if message.HasField("block_cache")
        else None,
        resident_bytes=message.resident_bytes if message.HasField("resident_bytes") else None,
    )


def event(message: stream_pb2.MatchStreamResponse) -> Event | None:
    """An event of a stream; None if it is of a kind that only a newer client knows."""
    kind, heard_s = message.WhichOneof("event"), message.heard_s
    if kind == "started":
        return Started(heard_s, message.started.resumed, message.started.position_ms)
    if kind == "match_started":
        found = message.match_started
        return MatchStarted(heard_s, found.match_id, _match(found.match))
    if kind == "match_updated":
        found = message.match_updated
        return MatchUpdated(heard_s, found.match_id, _match(found.match))
    if kind == "match_ended":
        found = message.match_ended
        return MatchEnded(heard_s, found.match_id, _match(found.match))
    if kind == "stretch":
        stretch = message.stretch
        stretch_kind = _STRETCH_KINDS.get(stretch.kind, _UNSPECIFIED)
        end_s = stretch.end_s if stretch.HasField("end_s") else None
        return StretchEvent(heard_s, stretch_kind, stretch.start_s, end_s)
    if kind == "audio_lost":
        return AudioLost(heard_s, message.audio_lost.start_s, message.audio_lost.end_s)
    if kind == "progress":
        progress = message.progress
        return Progress(
            heard_s,
            progress.open_match_count,
            progress.late_s,
            progress.behind_s,
            progress.skipped_change_searches,
        )
    return None
