"""The client: one method for each thing that an Earmark server does."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Union

from google.protobuf.message import Message

from . import _convert, _upload
from ._connection import Connection
from ._convert import SpeedSearch
from ._generated.earmark.v1 import catalog_pb2, match_pb2, track_pb2
from ._source import Chunk, Source
from ._upload import TrackFields
from .events import Encoded, Format
from .results import Added, Ingested, MatchResult, Stats, Track
from .stream import MatchStream

AnyPath = Union[str, "os.PathLike[str]"]


def _new_request_id() -> str:
    """A name for a call that changes something, by which the server knows a repeat of it."""
    return uuid.uuid4().hex


class Client:
    """A connection to an Earmark server. Threads may share it; use it in a `with` statement.

    Every call has a deadline of `timeout_s` seconds for all its tries. `UNAVAILABLE` and
    `RESOURCE_EXHAUSTED` are tried again up to `retries` times, after growing pauses of random
    length, or when the server says; a server that cannot be reached, until the deadline. Failed
    calls raise a subclass of `EarmarkError`; arguments that make no sense raise ValueError.
    """

    def __init__(
        self,
        target: str,
        *,
        token: str | None = None,
        root_certificates: bytes | None = None,
        private_key: bytes | None = None,
        certificate_chain: bytes | None = None,
        timeout_s: float = 60.0,
        retries: int = 3,
    ) -> None:
        """Connects at the first call.

        Args:
            target: `host:port`, `http://host:port` or `https://host:port`. The connection is
                encrypted with `https`, and with any certificate or key below.
            token: The key that the server wants, as `earmark keys create` prints it; white space
                around it does not matter. Sent with each call as `authorization: Bearer TOKEN`:
                without encryption whoever sees the traffic can read it.
            root_certificates: Whom to trust, PEM; None means the roots that grpcio brings along.
            private_key: Key of the client's own certificate, PEM, if the server asks for one.
            certificate_chain: That certificate, and those between it and its root, PEM.
            timeout_s: Longest time of a call in seconds.
            retries: Further tries of a call; those that reach no server are not counted. With 0
                there is none at all.

        """
        self._connection = Connection(
            target, token, root_certificates, private_key, certificate_chain, timeout_s, retries
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all calls and closes the connection. Later calls raise ValueError."""
        self._connection.close()

    def match_file(
        self,
        path: AnyPath,
        *,
        max_matches: int | None = None,
        min_confidence: float | None = None,
        max_false_accepts: float | None = None,
        speed_search: SpeedSearch = "auto",
        timeout_s: float | None = None,
    ) -> MatchResult:
        """Says which tracks are in an audio or video file; see `match_bytes`.

        Raises OSError, too, if the file cannot be read.
        """
        return self.match_bytes(
            Path(path).read_bytes(),
            max_matches=max_matches,
            min_confidence=min_confidence,
            max_false_accepts=max_false_accepts,
            speed_search=speed_search,
            timeout_s=timeout_s,
        )

    def match_bytes(
        self,
        data: bytes,
        *,
        max_matches: int | None = None,
        min_confidence: float | None = None,
        max_false_accepts: float | None = None,
        speed_search: SpeedSearch = "auto",
        timeout_s: float | None = None,
    ) -> MatchResult:
        """Says which tracks are in the bytes of an audio or video file.

        That there is no match, or that the audio is silent or too short, is an answer and no error.

        Args:
            data: The whole file, of any codec that the server can decode.
            max_matches: Most matches to report, 1 to 1000; None means 10.
            min_confidence: Least confidence of a match, 0 to 1; None means 0.
            max_false_accepts: Most false accepts by chance a query, above 0 and at most 1; None
                means 0.0001.
            speed_search: Whether tracks of changed speed, tempo or pitch are searched for: where no
                unchanged track is found, never, or everywhere.
            timeout_s: Longest time of this call in seconds; None means the client's.

        Raises InvalidAudioOrArgument if the audio cannot be decoded, an option is out of range, or
        the clip is larger or longer than the server allows (Busy, if it gives no reason).

        """
        options = _convert.match_options(
            max_matches, min_confidence, max_false_accepts, speed_search
        )
        return self._match(track_pb2.Audio(encoded=data), options, timeout_s)

    def match_fingerprint(
        self,
        data: bytes,
        *,
        max_matches: int | None = None,
        min_confidence: float | None = None,
        max_false_accepts: float | None = None,
        speed_search: SpeedSearch = "auto",
        timeout_s: float | None = None,
    ) -> MatchResult:
        """Says which tracks are in a fingerprint of format version 1; options as of `match_bytes`.

        Raises InvalidAudioOrArgument if it is malformed, and FailedPrecondition if it was made with
        other fingerprint parameters than the server's.
        """
        options = _convert.match_options(
            max_matches, min_confidence, max_false_accepts, speed_search
        )
        return self._match(track_pb2.Audio(fingerprint=data), options, timeout_s)

    def match_stream(
        self,
        chunks: Iterable[Chunk],
        *,
        format: Format,
        stream_id: str | None = None,
        start_ms: int | None = None,
        max_false_events: float | None = None,
        min_confidence: float | None = None,
        speed_search: SpeedSearch = "auto",
        update_interval_s: int | None = None,
        max_gap_s: int | None = None,
        silence_db: float | None = None,
        reconnect_s: float = 60.0,
    ) -> MatchStream:
        """Follows a stream, such as a radio station, and tells which tracks begin and end in it.

        The chunks are read in a thread of their own, up to a minute ahead of what was sent. Samples
        and fingerprints go on by themselves after a broken connection: the last minute is kept, and
        what the server lacks of it is sent again.

        Args:
            chunks: The audio as it comes, in chunks of any size.
            format: What the chunks are.
            stream_id: The stream's name at the server, up to 128 bytes; whoever connects again with
                it within a minute goes on with the stream. None makes one up; a stream of encoded
                bytes must have none.
            start_ms: Time of the first sample in milliseconds, less than 2^32; times of events
                count from the same zero. None means 0, or the end of what the server has if it goes
                on with a stream of an earlier process.
            max_false_events: Most false events an hour, above 0 and at most 1000; None means 0.002.
            min_confidence: Least confidence of a match, 0 to 1; None means 0.
            speed_search: As of `match_bytes`.
            update_interval_s: Seconds between two updates of a match, 1 to 3600; None means 10.
            max_gap_s: A track that is not heard for so many seconds has ended, 2 to 12; None means
                6.
            silence_db: What is below counts as silence, in dB, -100 to 0; None means -70.
            reconnect_s: Seconds after which a broken connection is given up; 0 never reconnects.

        The returned stream raises, among others, Unavailable if the server stays away,
        DeadlineExceeded if no audio came for too long, Aborted if another call took the stream
        over, and Unauthenticated if the key is revoked meanwhile.

        """
        options = _convert.stream_options(
            max_false_events,
            min_confidence,
            speed_search,
            update_interval_s,
            max_gap_s,
            silence_db,
        )
        if start_ms is not None and not 0 <= start_ms < 2**32:
            raise ValueError(f"start_ms is {start_ms}, it must be 0 or more and less than 2^32")
        if stream_id is None:
            stream_id = "" if isinstance(format, Encoded) else uuid.uuid4().hex
        header = _convert.stream_header(format, options, stream_id)
        source = Source(chunks, format)
        return MatchStream(self._connection, source, header, start_ms, reconnect_s)

    def add_file(
        self,
        path: AnyPath,
        track_id: str = "",
        title: str = "",
        artist: str = "",
        album: str = "",
        isrc: str = "",
        attributes: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Added:
        """Adds a recording, or replaces it if its id is there with other audio.

        When this returns, the track is on the server's disk and can be found. This is retried like
        all other calls, from the start of the file: all tries have one request id, so that the
        server adds the track once, and answers a repeat as it answered the first, whatever others
        have changed in between.

        Args:
            path: An audio or video file of any codec that the server can decode.
            track_id: 1 to 200 bytes without control characters; empty derives it from the audio.
            title: Title of the recording.
            artist: Performing artist.
            album: Album or release.
            isrc: International Standard Recording Code.
            attributes: Whatever else should come back with a match. All texts together have at most
                64 KiB.
            timeout_s: Longest time of this call in seconds; None means the client's, and a second
                more for each MiB of the file.
            request_id: Names this call, in at most 128 bytes. Whoever gives it makes the call again
                by calling with it again within an hour; another call must have another. None makes
                one up.

        Raises InvalidAudioOrArgument if the file cannot be decoded or the request id is that of
        another call, and OSError if the file cannot be read.

        """
        header = catalog_pb2.AddTrackHeader(
            track_id=track_id,
            metadata=track_pb2.Metadata(
                title=title, artist=artist, album=album, isrc=isrc, attributes=attributes
            ),
            encoding=catalog_pb2.AddTrackHeader.ENCODING_AUDIO,
            request_id=_new_request_id() if request_id is None else request_id,
        )
        return _convert.added(_upload.upload(self._connection, Path(path), header, timeout_s))

    def ingest(
        self,
        paths: Iterable[AnyPath],
        describe: Callable[[Path], TrackFields] | None = None,
        *,
        concurrency: int = 4,
    ) -> Iterator[Ingested]:
        """Adds files, some at a time, and yields what became of each, in their order.

        A file that cannot be read, decoded or sent is told as such, and the next ones go on.
        Nothing begins before the first result is asked for.

        Args:
            paths: Files; folders are not looked into.
            describe: Gives the arguments of `add_file` for a path, such as `{"title": "Tune"}`;
                what it raises ends the ingest.
            concurrency: Files that are sent at a time.

        """
        return _upload.ingest(
            (Path(path) for path in paths),
            lambda path, fields: self.add_file(path, **fields),
            describe,
            concurrency,
        )

    def get_track(self, track_id: str) -> Track:
        """Reads one track. Raises NotFound."""
        request = catalog_pb2.GetTrackRequest(track_id=track_id)
        answer = self._call(self._connection.catalog.GetTrack, request)
        return _convert.track(answer.track)

    def remove_track(self, track_id: str, *, request_id: str | None = None) -> Track:
        """Removes one track, and returns what was stored; it never answers again.

        Retried as all calls are, and done once: a try whose answer was lost is answered again,
        unless the server was restarted in between. `request_id` as of `add_file`. Raises NotFound.
        """
        request = catalog_pb2.RemoveTrackRequest(
            track_id=track_id,
            request_id=_new_request_id() if request_id is None else request_id,
        )
        answer = self._call(self._connection.catalog.RemoveTrack, request)
        return _convert.track(answer.track)

    def list_tracks(self, *, page_size: int = 1000) -> Iterator[Track]:
        """Yields all tracks in ascending order of their ids.

        Pages of at most `page_size` tracks, 1 to 1000, are fetched as they are needed, each with
        the client's deadline. Tracks that are added or removed meanwhile may be among them or not.
        """
        request = catalog_pb2.ListTracksRequest(page_size=page_size)
        while True:
            page = self._call(self._connection.catalog.ListTracks, request)
            yield from map(_convert.track, page.tracks)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def stats(self) -> Stats:
        """Sizes and counts of the index."""
        request = catalog_pb2.GetStatsRequest()
        return _convert.stats(self._call(self._connection.catalog.GetStats, request))

    def _match(
        self, audio: track_pb2.Audio, options: match_pb2.MatchOptions, timeout_s: float | None
    ) -> MatchResult:
        request = match_pb2.MatchRequest(audio=audio, options=options)
        return _convert.match_result(self._call(self._connection.matches.Match, request, timeout_s))

    def _call(self, method: Any, request: Message, timeout_s: float | None = None) -> Any:
        metadata = self._connection.metadata
        return self._connection.call(
            lambda remaining_s: method(request, timeout=remaining_s, metadata=metadata), timeout_s
        )
