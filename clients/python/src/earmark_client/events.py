"""Streams: how their audio is sent, and the events that are told of them.

Times of events are in seconds and count from the same zero as `start_ms` of the stream. Every event
has `heard_s`: up to there the stream has been searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Union

from .results import Match

PcmEncoding = Literal["s16", "s24", "s32", "f32"]


@dataclass(frozen=True)
class Pcm:
    """Samples, little-endian, the channels of a moment side by side. Chunks may have any length.

    Attributes:
        sample_rate_hz: Samples of one channel in a second, 1000 to 768000.
        channel_count: Channels, 1 to 8; they are mixed to mono.
        encoding: What a sample is: a 16, 24 or 32-bit integer, or a 32-bit float of full scale 1.

    """

    sample_rate_hz: int
    channel_count: int = 1
    encoding: PcmEncoding = "s16"


@dataclass(frozen=True)
class Encoded:
    """The bytes of one audio file or broadcast, of a codec that is built into the server.

    A stream of encoded bytes cannot be resumed: it ends with its connection.
    """


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of format version 1, one whole one a chunk, each of the time behind the last."""


Format = Union[Pcm, Encoded, Fingerprints]


@dataclass(frozen=True)
class Started:
    """The server has accepted the stream, at its beginning or after a broken connection.

    Attributes:
        heard_s: Up to here the stream has been searched.
        resumed: Whether the server goes on with what it had heard before. If a later `Started` is
            not resumed, the server has forgotten the stream, and the last minute of audio is
            searched again. What was told of it is not told again; of a match that was open and is
            not found again no end is told.
        position_ms: Time up to which the server has the audio, in milliseconds.

    """

    heard_s: float
    resumed: bool
    position_ms: int


@dataclass(frozen=True)
class MatchStarted:
    """A track is heard.

    Attributes:
        heard_s: Up to here the stream has been searched.
        match_id: Number of the match in this stream, from 1.
        match: What is known of it so far; its score is that of the best 15 s.

    """

    heard_s: float
    match_id: int
    match: Match


@dataclass(frozen=True)
class MatchUpdated:
    """A track goes on: longer, surer, or in a better place.

    Attributes:
        heard_s: Up to here the stream has been searched.
        match_id: As of its `MatchStarted`.
        match: What is known of it so far.

    """

    heard_s: float
    match_id: int
    match: Match


@dataclass(frozen=True)
class MatchEnded:
    """A track is not heard any more. Told once of each match.

    If a match began and ended while the connection was broken, no `MatchStarted` comes before.

    Attributes:
        heard_s: Up to here the stream has been searched.
        match_id: As of its `MatchStarted`.
        match: The last word about it.

    """

    heard_s: float
    match_id: int
    match: Match


@dataclass(frozen=True)
class StretchEvent:
    """No track is heard from here on, or was until here.

    Attributes:
        heard_s: Up to here the stream has been searched.
        kind: `"silent"`: there is no sound; `"unknown"`: there is, but of no track of the index.
        start_s: Where the stretch begins.
        end_s: Where it ends; None while it lasts.

    """

    heard_s: float
    kind: str
    start_s: float
    end_s: float | None


@dataclass(frozen=True)
class AudioLost:
    """Audio that the server did not get; the stream goes on behind it.

    Attributes:
        heard_s: Up to here the stream has been searched.
        start_s: Where it begins.
        end_s: Where it ends.

    """

    heard_s: float
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Progress:
    """Nothing new; told every 10 s of audio or so.

    Attributes:
        heard_s: Up to here the stream has been searched.
        open_match_count: Matches that go on.
        late_s: Audio that came too late, or twice, and was passed over.
        behind_s: How far the search is behind the audio that came.
        skipped_change_searches: Searches for changed recordings that the server had no time for.

    """

    heard_s: float
    open_match_count: int
    late_s: float
    behind_s: float
    skipped_change_searches: int


Event = Union[Started, MatchStarted, MatchUpdated, MatchEnded, StretchEvent, AudioLost, Progress]
