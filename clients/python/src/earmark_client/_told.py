"""What has been told of a stream, so that a resumed one tells nothing twice."""

from __future__ import annotations

from .events import AudioLost, Event, MatchEnded, MatchStarted, MatchUpdated, Started


class Told:
    """Passes events on, each match as one start, any number of updates and one end.

    When a server resumes a stream, it tells what ended in the last minute once more, and of matches
    that are open only that they go on: it cannot know which of its words were read.
    """

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._ended: set[int] = set()
        self._lost_to_s = 0.0

    def _forget(self) -> None:
        self._open.clear()
        self._ended.clear()
        self._lost_to_s = 0.0

    def pass_on(self, event: Event) -> Event | None:
        """The event as the caller should see it; None if it was told before."""
        if isinstance(event, Started) and not event.resumed:
            self._forget()
        elif isinstance(event, MatchStarted):
            self._open.add(event.match_id)
        elif isinstance(event, MatchUpdated) and event.match_id not in self._open:
            self._open.add(event.match_id)
            return MatchStarted(event.heard_s, event.match_id, event.match)
        elif isinstance(event, MatchEnded):
            if event.match_id in self._ended:
                return None
            self._open.discard(event.match_id)
            self._ended.add(event.match_id)
        elif isinstance(event, AudioLost):
            # Losses are told in the order of their times.
            if event.end_s <= self._lost_to_s:
                return None
            self._lost_to_s = event.end_s
        return event
