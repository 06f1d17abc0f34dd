"""Client of Earmark, the server for audio fingerprinting and matching.

from earmark_client import Client

with Client("127.0.0.1:50051") as client:
    print(client.match_file("clip.mp3").best)
"""

from ._convert import SpeedSearch
from ._upload import TrackFields
from .client import Client
from .errors import (
    Aborted,
    Busy,
    ConnectionFailed,
    DeadlineExceeded,
    EarmarkError,
    FailedPrecondition,
    InvalidAudioOrArgument,
    NotFound,
    PermissionDenied,
    RequestIdReused,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from .events import (
    AudioLost,
    Encoded,
    Event,
    Fingerprints,
    MatchEnded,
    MatchStarted,
    MatchUpdated,
    Pcm,
    Progress,
    Started,
    StretchEvent,
)
from .results import (
    Added,
    Alternative,
    BlockCache,
    Gap,
    Ingested,
    ListLengths,
    Match,
    MatchResult,
    SegmentClass,
    Stats,
    Track,
)
from .stream import MatchStream

__version__ = "0.1.0"

__all__ = [
    "Aborted",
    "Added",
    "Alternative",
    "AudioLost",
    "BlockCache",
    "Busy",
    "Client",
    "ConnectionFailed",
    "DeadlineExceeded",
    "EarmarkError",
    "Encoded",
    "Event",
    "FailedPrecondition",
    "Fingerprints",
    "Gap",
    "Ingested",
    "InvalidAudioOrArgument",
    "ListLengths",
    "Match",
    "MatchEnded",
    "MatchResult",
    "MatchStarted",
    "MatchStream",
    "MatchUpdated",
    "NotFound",
    "Pcm",
    "PermissionDenied",
    "Progress",
    "RequestIdReused",
    "SegmentClass",
    "ServerError",
    "SpeedSearch",
    "Started",
    "Stats",
    "StretchEvent",
    "Track",
    "TrackFields",
    "Unauthenticated",
    "Unavailable",
]
