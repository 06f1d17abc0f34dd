"""Results: what calls return. Times are in seconds unless a name says otherwise.

Texts that are not known are empty. Names that a newer server may send and this client does not know
are told as `"unspecified"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .errors import EarmarkError


@dataclass(frozen=True)
class Gap:
    """A stretch inside a match in which the track is not heard though nothing covers it.

    Attributes:
        query_start_s: Where it begins in the query.
        query_end_s: Where it ends in the query.

    """

    query_start_s: float
    query_end_s: float


@dataclass(frozen=True)
class Alternative:
    """Another place of a track that fits the same stretch of the query.

    Attributes:
        reference_start_s: Where the evidence begins in the track.
        reference_end_s: Where it ends in the track.
        score: As of a `Match`.

    """

    reference_start_s: float
    reference_end_s: float
    score: float


@dataclass(frozen=True)
class Match:
    """One stretch of one track, found in the query. What is None was not computed.

    Attributes:
        track_id: Which track.
        title: Its title.
        artist: Its artist.
        album: Its album or release.
        isrc: Its International Standard Recording Code.
        attributes: Whatever else was said about it when it was added.
        score: Evidence of the alignment against chance, in nats; higher is surer.
        confidence: Confidence that the match is no accident, 0 to 1.
        e_value: Chance alignments this good to be expected for such a query in such an index.
        query_start_s: Where the evidence begins in the query.
        query_end_s: Where the evidence ends in the query.
        reference_start_s: Where the evidence begins in the track.
        reference_end_s: Where the evidence ends in the track.
        reference_offset_s: Track time at query time 0; negative if the query begins before it.
        speed: Track seconds that pass in one query second: 1.05 means played 5 % faster.
        pitch: Query frequency divided by track frequency.
        gaps: Stretches of the match without the track, ascending.
        alternatives: Other places of the track that fit nearly as well, best first.

    """

    track_id: str
    title: str
    artist: str
    album: str
    isrc: str
    attributes: Mapping[str, str] = field(hash=False)
    score: float
    confidence: float | None
    e_value: float | None
    query_start_s: float
    query_end_s: float
    reference_start_s: float
    reference_end_s: float
    reference_offset_s: float
    speed: float | None
    pitch: float | None
    gaps: tuple[Gap, ...]
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class MatchResult:
    """The answer to one clip.

    Attributes:
        status: `"matched"`, `"no_match"`, `"too_short"` or `"silent"`.
        matches: Best first.
        duration_s: Length of the decoded clip.
        elapsed_ms: Time that the server spent on the request, in milliseconds.

    """

    status: str
    matches: tuple[Match, ...]
    duration_s: float
    elapsed_ms: float

    @property
    def best(self) -> Match | None:
        """The best match; None if there is none."""
        return self.matches[0] if self.matches else None


@dataclass(frozen=True)
class Track:
    """A stored recording.

    Attributes:
        track_id: The caller's id, or the one that follows from the audio.
        title: Its title.
        artist: Its artist.
        album: Its album or release.
        isrc: Its International Standard Recording Code.
        attributes: Whatever else was said about it when it was added.
        duration_s: Its length.
        content_hash: BLAKE3 of the decoded audio, 64 hexadecimal digits.
        posting_count: Its postings in the index; without any it can never be found: it is silent,
            or too short.
        peak_count: Its peaks, kept for verification.
        added_at: When its audio was added or last replaced, in UTC.

    """

    track_id: str
    title: str
    artist: str
    album: str
    isrc: str
    attributes: Mapping[str, str] = field(hash=False)
    duration_s: float
    content_hash: str
    posting_count: int
    peak_count: int
    added_at: datetime


@dataclass(frozen=True)
class Added:
    """What adding a track did.

    Attributes:
        track: The track as it is stored now.
        change: `"inserted"`; `"replaced"`, if the id was there with other audio;
            `"metadata_updated"`, if with the same audio; or `"unchanged"`.
        duplicate_of: Ids of other tracks with the very same decoded audio; they are kept.

    """

    track: Track
    change: str
    duplicate_of: tuple[str, ...]


@dataclass(frozen=True)
class Ingested:
    """What became of one file of an ingest: one of `added` and `error` is None.

    Attributes:
        path: The file.
        added: What adding it did.
        error: Why it was not added.

    """

    path: Path
    added: Added | None
    error: EarmarkError | OSError | None


@dataclass(frozen=True)
class SegmentClass:
    """Segments of the index of about one size.

    Attributes:
        postings_min: Fewest postings of a segment of this class.
        segment_count: Number of segments.
        posting_count: Number of their postings.

    """

    postings_min: int
    segment_count: int
    posting_count: int


@dataclass(frozen=True)
class ListLengths:
    """How long posting lists are, in postings.

    Attributes:
        list_count: Lists that are not empty.
        median: Half of them are not longer.
        p90: 90 % are not longer.
        p99: 99 % are not longer.
        p999: 99.9 % are not longer.
        longest: The longest.

    """

    list_count: int
    median: int
    p90: int
    p99: int
    p999: int
    longest: int


@dataclass(frozen=True)
class BlockCache:
    """What the server has seen of its cache of blocks since it started.

    Attributes:
        hit_count: Blocks that were there when a search wanted them.
        miss_count: Blocks that had to be read from the index.
        block_count: Blocks that are kept.
        bytes: Memory that they take.
        bytes_max: Memory that they may take.

    """

    hit_count: int
    miss_count: int
    block_count: int
    bytes: int
    bytes_max: int


@dataclass(frozen=True)
class Stats:
    """Sizes and counts of the index.

    Attributes:
        track_count: Live tracks.
        duration_s: Their length together.
        posting_count: Their postings.
        peak_count: Their peaks.
        bytes_by_part: Bytes on disk by part.
        format_version: Format version of the index.
        params_digest: Digest of the fingerprint parameters, 16 hexadecimal digits.
        server_version: Version of the server.
        purgeable_posting_count: Postings of removed tracks that wait to be purged.
        buffered_posting_count: Postings that are in memory only; nothing is lost with them.
        segments_by_size: Segments of postings by their size, ascending.
        list_lengths: How long posting lists are; None if the index is empty.
        block_cache: The server's cache; None if the server does not tell.
        resident_bytes: Resident memory of the server; None if its system does not tell.

    """

    track_count: int
    duration_s: float
    posting_count: int
    peak_count: int
    bytes_by_part: Mapping[str, int] = field(hash=False)
    format_version: int
    params_digest: str
    server_version: str
    purgeable_posting_count: int
    buffered_posting_count: int
    segments_by_size: tuple[SegmentClass, ...]
    list_lengths: ListLengths | None
    block_cache: BlockCache | None
    resident_bytes: int | None
