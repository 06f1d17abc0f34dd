from earmark_client._generated.earmark.v1 import match_pb2 as _match_pb2
from earmark_client._generated.earmark.v1 import stream_pb2 as _stream_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
