"""Audio that tests make themselves."""

from __future__ import annotations

import array
import functools
import io
import math
import random
import sys
import wave

RATE_HZ = 8000
_NOTE_S = 0.2


@functools.cache
def tune(seed: int, duration_s: int) -> bytes:
    """Samples of a made-up tune: 16 bits, one channel; the same for the same seed."""
    notes = random.Random(seed)
    samples = array.array("h")
    note_len = int(_NOTE_S * RATE_HZ)
    while len(samples) < duration_s * RATE_HZ:
        chord = [(notes.uniform(200, 3000), notes.uniform(0.3, 1.0)) for _ in range(4)]
        for i in range(note_len):
            decay = math.exp(-3.0 * i / note_len)
            t = i / RATE_HZ
            value = sum(level * math.sin(2 * math.pi * pitch * t) for pitch, level in chord)
            samples.append(int(7000 * decay * value))
    samples = samples[: duration_s * RATE_HZ]
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def silence(duration_s: float) -> bytes:
    """Samples of silence: 16 bits, one channel."""
    return bytes(2 * int(duration_s * RATE_HZ))


def cut(samples: bytes, start_s: float, end_s: float) -> bytes:
    """The samples from one time to another."""
    return samples[2 * int(start_s * RATE_HZ) : 2 * int(end_s * RATE_HZ)]


def wav(samples: bytes) -> bytes:
    """A WAV file of samples."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(samples)
    return file.getvalue()
