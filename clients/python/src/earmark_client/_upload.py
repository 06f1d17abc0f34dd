"""Uploads: a file in pieces, and many files at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, TypedDict

import grpc

from ._connection import Connection
from ._generated.earmark.v1 import catalog_pb2
from .errors import EarmarkError
from .results import Added, Ingested

_PIECE_BYTES = 256 * 1024
_MIB = 1024 * 1024


class TrackFields(TypedDict, total=False):
    """What `Client.add_file` may be told of a recording besides its file."""

    track_id: str
    title: str
    artist: str
    album: str
    isrc: str
    attributes: Mapping[str, str] | None


class _Messages(Iterator[catalog_pb2.AddTrackRequest]):
    """The messages of one upload. grpcio takes them in a thread of its own.

    An upload must never end early in silence: the server would take a part for the whole. So what
    cannot go on raises, which cancels the call, and never stops the iteration.
    """

    def __init__(self, path: Path, header: catalog_pb2.AddTrackHeader) -> None:
        self._file = path.open("rb")
        self._lock = threading.Lock()
        self._header: catalog_pb2.AddTrackHeader | None = header
        self.error: OSError | None = None

    def __next__(self) -> catalog_pb2.AddTrackRequest:
        # The lock keeps the file open while a piece is read.
        with self._lock:
            if self._file.closed:
                # The call is over: nobody gets this, and whoever did would refuse it.
                return catalog_pb2.AddTrackRequest()
            if self._header is not None:
                header, self._header = self._header, None
                return catalog_pb2.AddTrackRequest(header=header)
            try:
                data = self._file.read(_PIECE_BYTES)
            except OSError as error:
                self.error = error
                raise
        if not data:
            raise StopIteration
        return catalog_pb2.AddTrackRequest(data=data)

    def close(self) -> None:
        with self._lock:
            self._file.close()


def upload(
    connection: Connection,
    path: Path,
    header: catalog_pb2.AddTrackHeader,
    timeout_s: float | None,
) -> catalog_pb2.AddTrackResponse:
    """Sends a file, from its start at every try.

    Raises an EarmarkError, or OSError if the file cannot be read.
    """

    def attempt(remaining_s: float) -> catalog_pb2.AddTrackResponse:
        messages = _Messages(path, header)
        call = connection.catalog.AddTrack.future(
            messages, timeout=remaining_s, metadata=connection.metadata
        )
        try:
            answer: catalog_pb2.AddTrackResponse = call.result()
            return answer
        except grpc.RpcError:
            if messages.error is not None:
                raise messages.error from None
            raise
        finally:
            # Before the file is closed, and also when an interrupt has ended the waiting.
            call.cancel()
            messages.close()

    if timeout_s is None:
        timeout_s = connection.timeout_s + path.stat().st_size / _MIB
    return connection.call(attempt, timeout_s)


def ingest(
    paths: Iterable[Path],
    add: Callable[[Path, TrackFields], Added],
    describe: Callable[[Path], TrackFields] | None,
    concurrency: int,
) -> Iterator[Ingested]:
    """Adds files, `concurrency` at a time, and yields what became of them in their order."""

    def add_one(path: Path, fields: TrackFields) -> Ingested:
        try:
            return Ingested(path, add(path, fields), None)
        except (EarmarkError, OSError) as error:
            return Ingested(path, None, error)

    running: deque[Future[Ingested]] = deque()
    executor = ThreadPoolExecutor(concurrency, thread_name_prefix="earmark-ingest")
    try:
        for path in paths:
            fields = describe(path) if describe is not None else TrackFields()
            running.append(executor.submit(add_one, path, fields))
            if len(running) > concurrency:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        # Reached early if the caller wants no more results: what has not begun is left out.
        executor.shutdown(wait=True, cancel_futures=True)
