"""Retries: whether a failed call is tried again, and after which pause."""

from __future__ import annotations

import random
import time

from .errors import ConnectionFailed, EarmarkError, is_unreached

# What may be over after a pause. Everything else would fail again.
RETRIED_CODES = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})

_FIRST_PAUSE_S = 0.5
_DOUBLINGS_MAX = 4
# Whoever waits for a server to come up wants to know soon.
_UNREACHED_PAUSE_MAX_S = 2.0


class Backoff:
    """Pauses between the tries of one call: exponential, with full jitter.

    Full jitter spreads clients that were refused at one moment over the whole pause, so that they
    do not come back together.
    """

    def __init__(self, retries: int | None, end_s: float) -> None:
        """Allows `retries` further tries (None: any number) until the monotonic time `end_s`.

        Tries that reach no server are not counted, unless there must be no further one at all.
        """
        self._retries = retries
        self._end_s = end_s
        self._tries = 0
        self._counted = 0

    @property
    def remaining_s(self) -> float:
        """Seconds until the end; at least a millisecond, as grpcio wants a timeout above zero."""
        return max(self._end_s - time.monotonic(), 0.001)

    def pause_s(self, error: EarmarkError) -> float | None:
        """Seconds to wait before the next try; None if there must be none.

        A pause that the server asks for is kept, unless it does not fit before the end.
        """
        if error.code not in RETRIED_CODES or isinstance(error, ConnectionFailed):
            return None
        if error.reason is not None and error.retry_after_s is None:
            # A server that names its reasons says of those that pass when to come back; of too
            # large an upload it does not.
            return None
        unreached = is_unreached(error)
        if self._retries is not None:
            allowed = self._retries > 0 if unreached else self._counted < self._retries
            if not allowed:
                return None
        longest_s = _FIRST_PAUSE_S * 2 ** min(self._tries, _DOUBLINGS_MAX)
        if unreached:
            longest_s = min(longest_s, _UNREACHED_PAUSE_MAX_S)
        pause_s = (error.retry_after_s or 0.0) + random.uniform(0.0, longest_s)
        if time.monotonic() + pause_s >= self._end_s:
            return None
        self._tries += 1
        self._counted += 0 if unreached else 1
        return pause_s
