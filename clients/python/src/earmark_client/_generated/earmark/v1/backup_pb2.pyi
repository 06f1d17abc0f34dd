from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateBackupRequest(_message.Message):
    __slots__ = ("keep",)
    KEEP_FIELD_NUMBER: _ClassVar[int]
    keep: int
    def __init__(self, keep: _Optional[int] = ...) -> None: ...

class CreateBackupResponse(_message.Message):
    __slots__ = ("backup",)
    BACKUP_FIELD_NUMBER: _ClassVar[int]
    backup: Backup
    def __init__(self, backup: _Optional[_Union[Backup, _Mapping]] = ...) -> None: ...

class ListBackupsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBackupsResponse(_message.Message):
    __slots__ = ("backups",)
    BACKUPS_FIELD_NUMBER: _ClassVar[int]
    backups: _containers.RepeatedCompositeFieldContainer[Backup]
    def __init__(self, backups: _Optional[_Iterable[_Union[Backup, _Mapping]]] = ...) -> None: ...

class Backup(_message.Message):
    __slots__ = ("backup_id", "taken_at", "bytes", "added_bytes", "state", "track_count", "duration_s", "format_version", "params_digest")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Backup.State]
        STATE_VERIFIED: _ClassVar[Backup.State]
        STATE_UNVERIFIED: _ClassVar[Backup.State]
        STATE_DAMAGED: _ClassVar[Backup.State]
    STATE_UNSPECIFIED: Backup.State
    STATE_VERIFIED: Backup.State
    STATE_UNVERIFIED: Backup.State
    STATE_DAMAGED: Backup.State
    BACKUP_ID_FIELD_NUMBER: _ClassVar[int]
    TAKEN_AT_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ADDED_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TRACK_COUNT_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    backup_id: int
    taken_at: _timestamp_pb2.Timestamp
    bytes: int
    added_bytes: int
    state: Backup.State
    track_count: int
    duration_s: float
    format_version: int
    params_digest: str
    def __init__(self, backup_id: _Optional[int] = ..., taken_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., bytes: _Optional[int] = ..., added_bytes: _Optional[int] = ..., state: _Optional[_Union[Backup.State, str]] = ..., track_count: _Optional[int] = ..., duration_s: _Optional[float] = ..., format_version: _Optional[int] = ..., params_digest: _Optional[str] = ...) -> None: ...
