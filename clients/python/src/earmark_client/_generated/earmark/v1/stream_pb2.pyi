from earmark_client._generated.earmark.v1 import match_pb2 as _match_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MatchStreamRequest(_message.Message):
    __slots__ = ("header", "audio")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    header: StreamHeader
    audio: StreamAudio
    def __init__(self, header: _Optional[_Union[StreamHeader, _Mapping]] = ..., audio: _Optional[_Union[StreamAudio, _Mapping]] = ...) -> None: ...

class StreamHeader(_message.Message):
    __slots__ = ("pcm", "encoded", "fingerprint", "options", "stream_id", "start_ms")
    PCM_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    pcm: PcmFormat
    encoded: EncodedFormat
    fingerprint: FingerprintFormat
    options: StreamOptions
    stream_id: str
    start_ms: int
    def __init__(self, pcm: _Optional[_Union[PcmFormat, _Mapping]] = ..., encoded: _Optional[_Union[EncodedFormat, _Mapping]] = ..., fingerprint: _Optional[_Union[FingerprintFormat, _Mapping]] = ..., options: _Optional[_Union[StreamOptions, _Mapping]] = ..., stream_id: _Optional[str] = ..., start_ms: _Optional[int] = ...) -> None: ...

class PcmFormat(_message.Message):
    __slots__ = ("sample_rate_hz", "channel_count", "encoding")
    class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ENCODING_UNSPECIFIED: _ClassVar[PcmFormat.Encoding]
        ENCODING_S16: _ClassVar[PcmFormat.Encoding]
        ENCODING_S24: _ClassVar[PcmFormat.Encoding]
        ENCODING_S32: _ClassVar[PcmFormat.Encoding]
        ENCODING_F32: _ClassVar[PcmFormat.Encoding]
    ENCODING_UNSPECIFIED: PcmFormat.Encoding
    ENCODING_S16: PcmFormat.Encoding
    ENCODING_S24: PcmFormat.Encoding
    ENCODING_S32: PcmFormat.Encoding
    ENCODING_F32: PcmFormat.Encoding
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    sample_rate_hz: int
    channel_count: int
    encoding: PcmFormat.Encoding
    def __init__(self, sample_rate_hz: _Optional[int] = ..., channel_count: _Optional[int] = ..., encoding: _Optional[_Union[PcmFormat.Encoding, str]] = ...) -> None: ...

class EncodedFormat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FingerprintFormat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamOptions(_message.Message):
    __slots__ = ("max_false_events", "min_confidence", "speed_search", "update_interval_s", "max_gap_s", "silence_db")
    MAX_FALSE_EVENTS_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    SPEED_SEARCH_FIELD_NUMBER: _ClassVar[int]
    UPDATE_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    MAX_GAP_S_FIELD_NUMBER: _ClassVar[int]
    SILENCE_DB_FIELD_NUMBER: _ClassVar[int]
    max_false_events: float
    min_confidence: float
    speed_search: _match_pb2.SpeedSearch
    update_interval_s: int
    max_gap_s: int
    silence_db: float
    def __init__(self, max_false_events: _Optional[float] = ..., min_confidence: _Optional[float] = ..., speed_search: _Optional[_Union[_match_pb2.SpeedSearch, str]] = ..., update_interval_s: _Optional[int] = ..., max_gap_s: _Optional[int] = ..., silence_db: _Optional[float] = ...) -> None: ...

class StreamAudio(_message.Message):
    __slots__ = ("data", "position")
    DATA_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    position: int
    def __init__(self, data: _Optional[bytes] = ..., position: _Optional[int] = ...) -> None: ...

class MatchStreamResponse(_message.Message):
    __slots__ = ("heard_s", "started", "match_started", "match_updated", "match_ended", "stretch", "audio_lost", "progress")
    HEARD_S_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    MATCH_STARTED_FIELD_NUMBER: _ClassVar[int]
    MATCH_UPDATED_FIELD_NUMBER: _ClassVar[int]
    MATCH_ENDED_FIELD_NUMBER: _ClassVar[int]
    STRETCH_FIELD_NUMBER: _ClassVar[int]
    AUDIO_LOST_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    heard_s: float
    started: StreamStarted
    match_started: StreamMatch
    match_updated: StreamMatch
    match_ended: StreamMatch
    stretch: Stretch
    audio_lost: AudioLost
    progress: StreamProgress
    def __init__(self, heard_s: _Optional[float] = ..., started: _Optional[_Union[StreamStarted, _Mapping]] = ..., match_started: _Optional[_Union[StreamMatch, _Mapping]] = ..., match_updated: _Optional[_Union[StreamMatch, _Mapping]] = ..., match_ended: _Optional[_Union[StreamMatch, _Mapping]] = ..., stretch: _Optional[_Union[Stretch, _Mapping]] = ..., audio_lost: _Optional[_Union[AudioLost, _Mapping]] = ..., progress: _Optional[_Union[StreamProgress, _Mapping]] = ...) -> None: ...

class StreamStarted(_message.Message):
    __slots__ = ("resumed", "position_ms", "position")
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    POSITION_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    resumed: bool
    position_ms: int
    position: int
    def __init__(self, resumed: bool = ..., position_ms: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class StreamMatch(_message.Message):
    __slots__ = ("match_id", "match")
    MATCH_ID_FIELD_NUMBER: _ClassVar[int]
    MATCH_FIELD_NUMBER: _ClassVar[int]
    match_id: int
    match: _match_pb2.Match
    def __init__(self, match_id: _Optional[int] = ..., match: _Optional[_Union[_match_pb2.Match, _Mapping]] = ...) -> None: ...

class Stretch(_message.Message):
    __slots__ = ("kind", "start_s", "end_s")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Stretch.Kind]
        KIND_SILENT: _ClassVar[Stretch.Kind]
        KIND_UNKNOWN: _ClassVar[Stretch.Kind]
    KIND_UNSPECIFIED: Stretch.Kind
    KIND_SILENT: Stretch.Kind
    KIND_UNKNOWN: Stretch.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    kind: Stretch.Kind
    start_s: float
    end_s: float
    def __init__(self, kind: _Optional[_Union[Stretch.Kind, str]] = ..., start_s: _Optional[float] = ..., end_s: _Optional[float] = ...) -> None: ...

class AudioLost(_message.Message):
    __slots__ = ("start_s", "end_s")
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    start_s: float
    end_s: float
    def __init__(self, start_s: _Optional[float] = ..., end_s: _Optional[float] = ...) -> None: ...

class StreamProgress(_message.Message):
    __slots__ = ("open_match_count", "late_s", "behind_s", "skipped_change_searches")
    OPEN_MATCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    LATE_S_FIELD_NUMBER: _ClassVar[int]
    BEHIND_S_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_CHANGE_SEARCHES_FIELD_NUMBER: _ClassVar[int]
    open_match_count: int
    late_s: float
    behind_s: float
    skipped_change_searches: int
    def __init__(self, open_match_count: _Optional[int] = ..., late_s: _Optional[float] = ..., behind_s: _Optional[float] = ..., skipped_change_searches: _Optional[int] = ...) -> None: ...
