"""A server that answers as a test says, for what a real one does not do on demand."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

from earmark_client._generated.earmark.v1.catalog_pb2_grpc import (
    CatalogServiceServicer,
    add_CatalogServiceServicer_to_server,
)
from earmark_client._generated.earmark.v1.match_service_pb2_grpc import (
    MatchServiceServicer,
    add_MatchServiceServicer_to_server,
)
from earmark_client._generated.earmark_rpc import status_pb2


@contextmanager
def fake_server(
    *, credentials: grpc.ServerCredentials | None = None, port: int = 0, **methods: Any
) -> Iterator[str]:
    """Serves the methods that are given, such as `Match=function`, and yields the address."""
    matches, catalog = MatchServiceServicer(), CatalogServiceServicer()
    for name, function in methods.items():
        setattr(matches if name.startswith("Match") else catalog, name, function)
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool)
    add_MatchServiceServicer_to_server(matches, server)
    add_CatalogServiceServicer_to_server(catalog, server)
    if credentials is None:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        port = server.add_secure_port("localhost:0", credentials)
    server.start()
    try:
        yield f"{'127.0.0.1' if credentials is None else 'localhost'}:{port}"
    finally:
        server.stop(0).wait()
        pool.shutdown()


def fail(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    message: str = "no",
    *,
    reason: str | None = None,
    retry_after_s: float | None = None,
) -> None:
    """Ends a call with an error and its details."""
    details = []
    if reason is not None:
        details.append(packed("ErrorInfo", status_pb2.ErrorInfo(reason=reason, domain="earmark")))
    if retry_after_s is not None:
        delay = Duration(seconds=int(retry_after_s), nanos=round(retry_after_s % 1 * 1e9))
        details.append(packed("RetryInfo", status_pb2.RetryInfo(retry_delay=delay)))
    if details:
        # Details that a client does not know are no reason to overlook the others.
        details.insert(0, AnyMessage(type_url="type.googleapis.com/google.rpc.Help", value=b"?"))
        status = status_pb2.Status(code=code.value[0], message=message, details=details)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


def packed(name: str, message: Any) -> AnyMessage:
    """A detail, as servers send it."""
    return AnyMessage(
        type_url=f"type.googleapis.com/google.rpc.{name}", value=message.SerializeToString()
    )
