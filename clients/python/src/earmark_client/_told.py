"""What has been told of a stream, so that nothing is told twice whatever becomes of connections."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Union

from .events import (
    AudioLost,
    Event,
    MatchEnded,
    MatchStarted,
    MatchUpdated,
    Started,
    StretchEvent,
)

_MatchEvent = Union[MatchStarted, MatchUpdated, MatchEnded]

# A match is the same if its track lies in the same place, to so many seconds, and it does not begin
# later than so many seconds behind the end of the one that is known.
_SAME_OFFSET_S = 1.0
_SAME_STRETCH_S = 6.0
# The end of a stretch that is heard again may be found so many seconds later.
_SAME_END_S = 1.0
# Far more than a minute has.
_KNOWN_MAX = 1_000


@dataclass
class _Known:
    """A match that was told."""

    track_id: str
    reference_offset_s: float
    query_end_s: float
    has_ended: bool = False


class _Stretches:
    """What was told of one kind of stretches, which never overlap."""

    def __init__(self) -> None:
        self._open_s: float | None = None
        self._ended_s = 0.0

    def pass_on(
        self, event: StretchEvent, is_again: bool, again_to_s: float
    ) -> StretchEvent | None:
        # It lies behind all that was heard twice, and behind that which lasts, whose end was lost.
        if self._open_s is not None and event.start_s > max(again_to_s, self._open_s + _SAME_END_S):
            self._open_s = None
        if event.end_s is None:
            if self._open_s is not None or is_again or event.start_s < self._ended_s:
                return None
            self._open_s = event.start_s
            return event
        if self._open_s is None:
            if is_again or event.end_s <= self._ended_s + _SAME_END_S:
                return None
        elif event.end_s <= self._open_s:
            # One before that which lasts.
            return None
        else:
            # Whoever began to hear in the middle of it does not know where it begins.
            event = replace(event, start_s=self._open_s)
            self._open_s = None
        self._ended_s = event.end_s or self._ended_s
        return event


class Told:
    """Passes events on: a match as one start, any number of updates and one end, and so stretches.

    When a server resumes a stream, it tells what ended in the last minute once more, and of matches
    that are open only that they go on: it cannot know which of its words were read.

    A server that has forgotten the stream counts its matches anew, and hears the last minute a
    second time: a match that it finds there is known by its track and its place, a stretch by its
    place. Numbers of matches and times go on.
    """

    def __init__(self) -> None:
        # By our numbers, which go up.
        self._known: dict[int, _Known] = {}
        # Our number of each match of the server's count.
        self._numbers: dict[int, int] = {}
        self._last_number = 0
        self._stretches: defaultdict[str, _Stretches] = defaultdict(_Stretches)
        self._lost_to_s = 0.0
        self._has_started = False
        # Up to here the stream was searched …
        self._heard_s = 0.0
        # … and when a server forgot it, up to here: what is told of this is told again.
        self._again_to_s: float | None = None

    def pass_on(self, event: Event) -> Event | None:
        """The event as the caller should see it; None if it was told before."""
        if isinstance(event, Started):
            if self._has_started and not event.resumed:
                self._numbers.clear()
                self._again_to_s = self._heard_s
            self._has_started = True
            return event
        is_again = self._again_to_s is not None and event.heard_s <= self._again_to_s
        self._heard_s = max(self._heard_s, event.heard_s)
        event = replace(event, heard_s=self._heard_s)
        if isinstance(event, (MatchStarted, MatchUpdated, MatchEnded)):
            return self._pass_on_match(event, is_again)
        if isinstance(event, StretchEvent):
            again_to_s = -math.inf if self._again_to_s is None else self._again_to_s
            return self._stretches[event.kind].pass_on(event, is_again, again_to_s)
        if isinstance(event, AudioLost):
            # Losses are told in the order of their times.
            if event.end_s <= self._lost_to_s:
                return None
            self._lost_to_s = event.end_s
        return event

    def _pass_on_match(self, event: _MatchEvent, is_again: bool) -> _MatchEvent | None:
        number, match = self._number(event), event.match
        is_first = number not in self._known
        known = self._known.setdefault(
            number, _Known(match.track_id, match.reference_offset_s, match.query_end_s)
        )
        is_end = isinstance(event, MatchEnded)
        # Of a match that goes on more is known than what is heard of it again.
        if known.has_ended or (is_again and not is_first and not is_end):
            return None
        known.reference_offset_s = match.reference_offset_s
        known.query_end_s = max(known.query_end_s, match.query_end_s)
        known.has_ended = is_end
        self._forget_oldest()
        if isinstance(event, MatchUpdated) and is_first:
            # Its beginning was missed.
            return MatchStarted(event.heard_s, number, match)
        if isinstance(event, MatchStarted) and not is_first:
            return MatchUpdated(event.heard_s, number, match)
        return replace(event, match_id=number)

    def _number(self, event: _MatchEvent) -> int:
        """Our number of the match."""
        number = self._numbers.get(event.match_id) or self._known_number(event)
        if number is None:
            self._last_number += 1
            number = self._last_number
        self._numbers[event.match_id] = number
        return number

    def _known_number(self, event: _MatchEvent) -> int | None:
        """The number of a match that another server has told of."""
        taken, match = set(self._numbers.values()), event.match
        for number, known in reversed(list(self._known.items())):
            distance_s = abs(known.reference_offset_s - match.reference_offset_s)
            if (
                number not in taken
                and known.track_id == match.track_id
                and distance_s < _SAME_OFFSET_S
                and match.query_start_s < known.query_end_s + _SAME_STRETCH_S
            ):
                return number
        return None

    def _forget_oldest(self) -> None:
        if len(self._known) > _KNOWN_MAX:
            ended = (number for number, known in self._known.items() if known.has_ended)
            del self._known[next(ended, next(iter(self._known)))]
            self._numbers = {
                theirs: ours for theirs, ours in self._numbers.items() if ours in self._known
            }
