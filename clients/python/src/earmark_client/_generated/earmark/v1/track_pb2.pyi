from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Metadata(_message.Message):
    __slots__ = ("title", "artist", "album", "isrc", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ARTIST_FIELD_NUMBER: _ClassVar[int]
    ALBUM_FIELD_NUMBER: _ClassVar[int]
    ISRC_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    title: str
    artist: str
    album: str
    isrc: str
    attributes: _containers.ScalarMap[str, str]
    def __init__(self, title: _Optional[str] = ..., artist: _Optional[str] = ..., album: _Optional[str] = ..., isrc: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Track(_message.Message):
    __slots__ = ("track_id", "metadata", "duration_s", "content_hash", "posting_count", "peak_count", "added_at")
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    POSTING_COUNT_FIELD_NUMBER: _ClassVar[int]
    PEAK_COUNT_FIELD_NUMBER: _ClassVar[int]
    ADDED_AT_FIELD_NUMBER: _ClassVar[int]
    track_id: str
    metadata: Metadata
    duration_s: float
    content_hash: str
    posting_count: int
    peak_count: int
    added_at: _timestamp_pb2.Timestamp
    def __init__(self, track_id: _Optional[str] = ..., metadata: _Optional[_Union[Metadata, _Mapping]] = ..., duration_s: _Optional[float] = ..., content_hash: _Optional[str] = ..., posting_count: _Optional[int] = ..., peak_count: _Optional[int] = ..., added_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Audio(_message.Message):
    __slots__ = ("encoded", "fingerprint")
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    encoded: bytes
    fingerprint: bytes
    def __init__(self, encoded: _Optional[bytes] = ..., fingerprint: _Optional[bytes] = ...) -> None: ...
