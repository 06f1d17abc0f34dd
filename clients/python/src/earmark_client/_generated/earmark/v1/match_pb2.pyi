from earmark_client._generated.earmark.v1 import track_pb2 as _track_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpeedSearch(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPEED_SEARCH_UNSPECIFIED: _ClassVar[SpeedSearch]
    SPEED_SEARCH_OFF: _ClassVar[SpeedSearch]
    SPEED_SEARCH_AUTO: _ClassVar[SpeedSearch]
    SPEED_SEARCH_FULL: _ClassVar[SpeedSearch]

class MatchStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MATCH_STATUS_UNSPECIFIED: _ClassVar[MatchStatus]
    MATCH_STATUS_MATCHED: _ClassVar[MatchStatus]
    MATCH_STATUS_NO_MATCH: _ClassVar[MatchStatus]
    MATCH_STATUS_TOO_SHORT: _ClassVar[MatchStatus]
    MATCH_STATUS_SILENT: _ClassVar[MatchStatus]
SPEED_SEARCH_UNSPECIFIED: SpeedSearch
SPEED_SEARCH_OFF: SpeedSearch
SPEED_SEARCH_AUTO: SpeedSearch
SPEED_SEARCH_FULL: SpeedSearch
MATCH_STATUS_UNSPECIFIED: MatchStatus
MATCH_STATUS_MATCHED: MatchStatus
MATCH_STATUS_NO_MATCH: MatchStatus
MATCH_STATUS_TOO_SHORT: MatchStatus
MATCH_STATUS_SILENT: MatchStatus

class MatchRequest(_message.Message):
    __slots__ = ("audio", "options", "request_id")
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    audio: _track_pb2.Audio
    options: MatchOptions
    request_id: str
    def __init__(self, audio: _Optional[_Union[_track_pb2.Audio, _Mapping]] = ..., options: _Optional[_Union[MatchOptions, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class BatchMatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[MatchRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[MatchRequest, _Mapping]]] = ...) -> None: ...

class BatchMatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchMatchResult]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchMatchResult, _Mapping]]] = ...) -> None: ...

class BatchMatchResult(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: MatchResponse
    error: MatchError
    def __init__(self, response: _Optional[_Union[MatchResponse, _Mapping]] = ..., error: _Optional[_Union[MatchError, _Mapping]] = ...) -> None: ...

class MatchError(_message.Message):
    __slots__ = ("code", "reason", "message", "request_id")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    request_id: str
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class MatchOptions(_message.Message):
    __slots__ = ("max_matches", "min_confidence", "speed_search", "max_false_accepts", "deadline_ms")
    MAX_MATCHES_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    SPEED_SEARCH_FIELD_NUMBER: _ClassVar[int]
    MAX_FALSE_ACCEPTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    max_matches: int
    min_confidence: float
    speed_search: SpeedSearch
    max_false_accepts: float
    deadline_ms: int
    def __init__(self, max_matches: _Optional[int] = ..., min_confidence: _Optional[float] = ..., speed_search: _Optional[_Union[SpeedSearch, str]] = ..., max_false_accepts: _Optional[float] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class MatchResponse(_message.Message):
    __slots__ = ("status", "matches", "duration_s", "elapsed_ms", "request_id")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    status: MatchStatus
    matches: _containers.RepeatedCompositeFieldContainer[Match]
    duration_s: float
    elapsed_ms: float
    request_id: str
    def __init__(self, status: _Optional[_Union[MatchStatus, str]] = ..., matches: _Optional[_Iterable[_Union[Match, _Mapping]]] = ..., duration_s: _Optional[float] = ..., elapsed_ms: _Optional[float] = ..., request_id: _Optional[str] = ...) -> None: ...

class Match(_message.Message):
    __slots__ = ("track_id", "metadata", "score", "confidence", "e_value", "query_start_s", "query_end_s", "reference_start_s", "reference_end_s", "reference_offset_s", "speed", "pitch", "gaps", "alternatives")
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    E_VALUE_FIELD_NUMBER: _ClassVar[int]
    QUERY_START_S_FIELD_NUMBER: _ClassVar[int]
    QUERY_END_S_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_START_S_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_END_S_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_OFFSET_S_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    PITCH_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    track_id: str
    metadata: _track_pb2.Metadata
    score: float
    confidence: float
    e_value: float
    query_start_s: float
    query_end_s: float
    reference_start_s: float
    reference_end_s: float
    reference_offset_s: float
    speed: float
    pitch: float
    gaps: _containers.RepeatedCompositeFieldContainer[Gap]
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternative]
    def __init__(self, track_id: _Optional[str] = ..., metadata: _Optional[_Union[_track_pb2.Metadata, _Mapping]] = ..., score: _Optional[float] = ..., confidence: _Optional[float] = ..., e_value: _Optional[float] = ..., query_start_s: _Optional[float] = ..., query_end_s: _Optional[float] = ..., reference_start_s: _Optional[float] = ..., reference_end_s: _Optional[float] = ..., reference_offset_s: _Optional[float] = ..., speed: _Optional[float] = ..., pitch: _Optional[float] = ..., gaps: _Optional[_Iterable[_Union[Gap, _Mapping]]] = ..., alternatives: _Optional[_Iterable[_Union[Alternative, _Mapping]]] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("query_start_s", "query_end_s")
    QUERY_START_S_FIELD_NUMBER: _ClassVar[int]
    QUERY_END_S_FIELD_NUMBER: _ClassVar[int]
    query_start_s: float
    query_end_s: float
    def __init__(self, query_start_s: _Optional[float] = ..., query_end_s: _Optional[float] = ...) -> None: ...

class Alternative(_message.Message):
    __slots__ = ("reference_start_s", "reference_end_s", "score")
    REFERENCE_START_S_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_END_S_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    reference_start_s: float
    reference_end_s: float
    score: float
    def __init__(self, reference_start_s: _Optional[float] = ..., reference_end_s: _Optional[float] = ..., score: _Optional[float] = ...) -> None: ...
