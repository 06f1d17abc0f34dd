from earmark_client._generated.earmark.v1 import track_pb2 as _track_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AddTrackRequest(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: AddTrackHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[AddTrackHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class AddTrackHeader(_message.Message):
    __slots__ = ("track_id", "metadata", "encoding", "request_id")
    class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ENCODING_UNSPECIFIED: _ClassVar[AddTrackHeader.Encoding]
        ENCODING_AUDIO: _ClassVar[AddTrackHeader.Encoding]
        ENCODING_FINGERPRINT: _ClassVar[AddTrackHeader.Encoding]
    ENCODING_UNSPECIFIED: AddTrackHeader.Encoding
    ENCODING_AUDIO: AddTrackHeader.Encoding
    ENCODING_FINGERPRINT: AddTrackHeader.Encoding
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    track_id: str
    metadata: _track_pb2.Metadata
    encoding: AddTrackHeader.Encoding
    request_id: str
    def __init__(self, track_id: _Optional[str] = ..., metadata: _Optional[_Union[_track_pb2.Metadata, _Mapping]] = ..., encoding: _Optional[_Union[AddTrackHeader.Encoding, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class AddTrackResponse(_message.Message):
    __slots__ = ("track", "change", "duplicate_of")
    class Change(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CHANGE_UNSPECIFIED: _ClassVar[AddTrackResponse.Change]
        CHANGE_INSERTED: _ClassVar[AddTrackResponse.Change]
        CHANGE_REPLACED: _ClassVar[AddTrackResponse.Change]
        CHANGE_METADATA_UPDATED: _ClassVar[AddTrackResponse.Change]
        CHANGE_UNCHANGED: _ClassVar[AddTrackResponse.Change]
    CHANGE_UNSPECIFIED: AddTrackResponse.Change
    CHANGE_INSERTED: AddTrackResponse.Change
    CHANGE_REPLACED: AddTrackResponse.Change
    CHANGE_METADATA_UPDATED: AddTrackResponse.Change
    CHANGE_UNCHANGED: AddTrackResponse.Change
    TRACK_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_OF_FIELD_NUMBER: _ClassVar[int]
    track: _track_pb2.Track
    change: AddTrackResponse.Change
    duplicate_of: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, track: _Optional[_Union[_track_pb2.Track, _Mapping]] = ..., change: _Optional[_Union[AddTrackResponse.Change, str]] = ..., duplicate_of: _Optional[_Iterable[str]] = ...) -> None: ...

class GetTrackRequest(_message.Message):
    __slots__ = ("track_id",)
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    track_id: str
    def __init__(self, track_id: _Optional[str] = ...) -> None: ...

class GetTrackResponse(_message.Message):
    __slots__ = ("track",)
    TRACK_FIELD_NUMBER: _ClassVar[int]
    track: _track_pb2.Track
    def __init__(self, track: _Optional[_Union[_track_pb2.Track, _Mapping]] = ...) -> None: ...

class ListTracksRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTracksResponse(_message.Message):
    __slots__ = ("tracks", "next_page_token")
    TRACKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tracks: _containers.RepeatedCompositeFieldContainer[_track_pb2.Track]
    next_page_token: str
    def __init__(self, tracks: _Optional[_Iterable[_Union[_track_pb2.Track, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RemoveTrackRequest(_message.Message):
    __slots__ = ("track_id", "request_id")
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    track_id: str
    request_id: str
    def __init__(self, track_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RemoveTrackResponse(_message.Message):
    __slots__ = ("track",)
    TRACK_FIELD_NUMBER: _ClassVar[int]
    track: _track_pb2.Track
    def __init__(self, track: _Optional[_Union[_track_pb2.Track, _Mapping]] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("track_count", "duration_s", "posting_count", "peak_count", "bytes_by_part", "format_version", "params_digest", "server_version", "purgeable_posting_count", "buffered_posting_count", "segments_by_size", "list_lengths", "block_cache", "resident_bytes")
    class BytesByPartEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TRACK_COUNT_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    POSTING_COUNT_FIELD_NUMBER: _ClassVar[int]
    PEAK_COUNT_FIELD_NUMBER: _ClassVar[int]
    BYTES_BY_PART_FIELD_NUMBER: _ClassVar[int]
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    PURGEABLE_POSTING_COUNT_FIELD_NUMBER: _ClassVar[int]
    BUFFERED_POSTING_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_BY_SIZE_FIELD_NUMBER: _ClassVar[int]
    LIST_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_CACHE_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    track_count: int
    duration_s: float
    posting_count: int
    peak_count: int
    bytes_by_part: _containers.ScalarMap[str, int]
    format_version: int
    params_digest: str
    server_version: str
    purgeable_posting_count: int
    buffered_posting_count: int
    segments_by_size: _containers.RepeatedCompositeFieldContainer[SegmentClass]
    list_lengths: ListLengths
    block_cache: BlockCache
    resident_bytes: int
    def __init__(self, track_count: _Optional[int] = ..., duration_s: _Optional[float] = ..., posting_count: _Optional[int] = ..., peak_count: _Optional[int] = ..., bytes_by_part: _Optional[_Mapping[str, int]] = ..., format_version: _Optional[int] = ..., params_digest: _Optional[str] = ..., server_version: _Optional[str] = ..., purgeable_posting_count: _Optional[int] = ..., buffered_posting_count: _Optional[int] = ..., segments_by_size: _Optional[_Iterable[_Union[SegmentClass, _Mapping]]] = ..., list_lengths: _Optional[_Union[ListLengths, _Mapping]] = ..., block_cache: _Optional[_Union[BlockCache, _Mapping]] = ..., resident_bytes: _Optional[int] = ...) -> None: ...

class SegmentClass(_message.Message):
    __slots__ = ("postings_min", "segment_count", "posting_count")
    POSTINGS_MIN_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    POSTING_COUNT_FIELD_NUMBER: _ClassVar[int]
    postings_min: int
    segment_count: int
    posting_count: int
    def __init__(self, postings_min: _Optional[int] = ..., segment_count: _Optional[int] = ..., posting_count: _Optional[int] = ...) -> None: ...

class ListLengths(_message.Message):
    __slots__ = ("list_count", "median", "p90", "p99", "p999", "longest")
    LIST_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    P999_FIELD_NUMBER: _ClassVar[int]
    LONGEST_FIELD_NUMBER: _ClassVar[int]
    list_count: int
    median: int
    p90: int
    p99: int
    p999: int
    longest: int
    def __init__(self, list_count: _Optional[int] = ..., median: _Optional[int] = ..., p90: _Optional[int] = ..., p99: _Optional[int] = ..., p999: _Optional[int] = ..., longest: _Optional[int] = ...) -> None: ...

class BlockCache(_message.Message):
    __slots__ = ("hit_count", "miss_count", "block_count", "bytes", "bytes_max")
    HIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    MISS_COUNT_FIELD_NUMBER: _ClassVar[int]
    BLOCK_COUNT_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    hit_count: int
    miss_count: int
    block_count: int
    bytes: int
    bytes_max: int
    def __init__(self, hit_count: _Optional[int] = ..., miss_count: _Optional[int] = ..., block_count: _Optional[int] = ..., bytes: _Optional[int] = ..., bytes_max: _Optional[int] = ...) -> None: ...
