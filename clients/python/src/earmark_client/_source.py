"""The audio of a stream: read ahead in a thread of its own, and kept for a while after it was sent.

Positions count from the beginning of the source, in the format's units: samples of one channel, or
milliseconds of fingerprints. Encoded bytes have no positions; nothing of them is kept.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Union

from .events import Encoded, Format, Pcm

Chunk = Union[bytes, bytearray, memoryview]

# As long as a server remembers a stream whose connection broke.
_KEPT_S = 60
# Samples of many channels at a high rate come to gigabytes in a minute.
_KEPT_BYTES = 64 * 1024 * 1024
_AHEAD_BYTES_ENCODED = 1024 * 1024
_PIECE_BYTES = 256 * 1024
# The server takes no more than 10 s of samples at a time.
_PIECE_S = 5

_SAMPLE_BYTES = {"s16": 2, "s24": 3, "s32": 4, "f32": 4}

_FINGERPRINT_MAGIC = b"EMFP"
_FINGERPRINT_DURATION = slice(45, 53)


class Piece(NamedTuple):
    """What one message carries."""

    start: int
    length: int
    data: bytes


class Cutter:
    """Cuts chunks into pieces."""

    def __init__(self, audio_format: Format) -> None:
        self._format = audio_format
        self._position = 0
        self._rest = b""
        self.units_per_s = audio_format.sample_rate_hz if isinstance(audio_format, Pcm) else 1000
        self._frame_bytes = 1
        if isinstance(audio_format, Pcm):
            self._frame_bytes = _SAMPLE_BYTES[audio_format.encoding] * audio_format.channel_count

    def cut(self, chunk: Chunk) -> Iterator[Piece]:
        """The pieces of a chunk; a part of a frame waits for the rest of it."""
        data = bytes(chunk)
        if isinstance(self._format, Pcm):
            yield from self._cut_samples(data)
        elif isinstance(self._format, Encoded):
            for start in range(0, len(data), _PIECE_BYTES):
                yield Piece(0, 0, data[start : start + _PIECE_BYTES])
        else:
            if data[:4] != _FINGERPRINT_MAGIC or len(data) < _FINGERPRINT_DURATION.stop:
                raise ValueError("a chunk is no fingerprint; each must be one, and whole")
            duration_ms = int.from_bytes(data[_FINGERPRINT_DURATION], "big")
            yield self._placed(duration_ms, data)

    def _cut_samples(self, data: bytes) -> Iterator[Piece]:
        data = self._rest + data
        whole_bytes = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole_bytes:]
        frames = min(max(_PIECE_BYTES // self._frame_bytes, 1), _PIECE_S * self.units_per_s)
        step = frames * self._frame_bytes
        for start in range(0, whole_bytes, step):
            part = data[start : min(start + step, whole_bytes)]
            yield self._placed(len(part) // self._frame_bytes, part)

    def _placed(self, length: int, data: bytes) -> Piece:
        piece = Piece(self._position, length, data)
        self._position += length
        return piece


class Source:
    """Pieces of a stream for one connection after the other.

    A thread reads the chunks, so that neither a slow source nor one that never ends keeps anybody
    else waiting. Pieces stay here until those behind them make up a minute of sent audio.
    """

    def __init__(self, chunks: Iterable[Chunk], audio_format: Format) -> None:
        self._chunks = chunks
        self._cutter = Cutter(audio_format)
        self._keeps = not isinstance(audio_format, Encoded)
        self._ahead_bytes_max = _KEPT_BYTES if self._keeps else _AHEAD_BYTES_ENCODED
        self.units_per_s = self._cutter.units_per_s
        self.error: Exception | None = None
        # Guards everything below.
        self._changed = threading.Condition()
        self._pieces: deque[Piece] = deque()
        self._sent_count = 0
        self._sent_bytes = 0
        self._ahead_bytes = 0
        self._has_ended = False
        self._is_closed = False
        self._taker = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to read the chunks."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._read, name="earmark-stream-source", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Ends the reading, as soon as the source has given the chunk that is waited for."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def oldest(self) -> int:
        """Position of the oldest piece that is kept."""
        with self._changed:
            return self._pieces[0].start if self._pieces else 0

    def new_taker(self) -> int:
        """Gives the pieces to a new connection; `take` tells the one before that it is over."""
        with self._changed:
            self._taker += 1
            self._changed.notify_all()
            return self._taker

    def rewind(self, position: int) -> None:
        """Makes the piece at `position`, or the first one behind it that is kept, the next."""
        with self._changed:
            count = sum(1 for piece in self._pieces if piece.start + piece.length <= position)
            self._sent_count = count
            sizes = [len(piece.data) for piece in self._pieces]
            self._sent_bytes = sum(sizes[:count])
            self._ahead_bytes = sum(sizes[count:])
            self._changed.notify_all()

    def take(self, taker: int) -> Piece | None:
        """Waits for the next piece; None at the end, or if another has become the taker."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._sent_count < len(self._pieces)
                    or self._has_ended
                    or self._is_closed
                    or self._taker != taker
                )
            )
            is_over = self._is_closed or self._taker != taker
            if is_over or self._sent_count == len(self._pieces):
                return None
            piece = self._pieces[self._sent_count]
            self._sent_count += 1
            self._sent_bytes += len(piece.data)
            self._ahead_bytes -= len(piece.data)
            self._forget(piece.start + piece.length)
            self._changed.notify_all()
            return piece

    def _forget(self, sent_to: int) -> None:
        """Drops sent pieces that are too old, or too many."""
        while self._sent_count > 0:
            oldest = self._pieces[0]
            is_old = sent_to - (oldest.start + oldest.length) >= _KEPT_S * self.units_per_s
            if self._keeps and not is_old and self._sent_bytes <= _KEPT_BYTES:
                return
            self._pieces.popleft()
            self._sent_count -= 1
            self._sent_bytes -= len(oldest.data)

    def _has_room(self) -> bool:
        ahead = len(self._pieces) - self._sent_count
        if ahead == 0:
            return True
        first, last = self._pieces[self._sent_count], self._pieces[-1]
        is_long = last.start + last.length - first.start >= _KEPT_S * self.units_per_s
        return self._ahead_bytes < self._ahead_bytes_max and not is_long

    def _read(self) -> None:
        try:
            for chunk in self._chunks:
                for piece in self._cutter.cut(chunk):
                    with self._changed:
                        self._changed.wait_for(lambda: self._is_closed or self._has_room())
                        if self._is_closed:
                            return
                        self._pieces.append(piece)
                        self._ahead_bytes += len(piece.data)
                        self._changed.notify_all()
                if self._is_closed:
                    return
        except Exception as error:
            # Told to whoever reads the events, behind the last of them.
            self.error = error
        finally:
            # A generator that nobody else holds is closed here, and not whenever this object goes.
            self._chunks = ()
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()
