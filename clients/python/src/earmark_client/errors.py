"""Errors: one class for each thing that a caller can do about a failed call."""

from __future__ import annotations

import re
from collections.abc import Iterable

import grpc
from google.protobuf.message import DecodeError

from ._generated.earmark_rpc import status_pb2

_DETAILS_KEY = "grpc-status-details-bin"


class EarmarkError(Exception):
    """A call that failed. Raised itself only with the code `CANCELLED`, when its client was closed.

    Attributes:
        message: What is wrong and, if anything helps, what; for people.
        code: Name of the gRPC code, such as `"INVALID_ARGUMENT"`.
        reason: The server's constant name of the cause, for programs; None if it gave none.
        retry_after_s: Seconds after which another try makes sense; None if the server did not say.

    """

    def __init__(
        self,
        message: str,
        code: str,
        reason: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        # All of them in `args`, so that errors can be pickled and sent between processes.
        super().__init__(message, code, reason, retry_after_s)
        self.message = message
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvalidAudioOrArgument(EarmarkError):
    """The audio cannot be decoded, or something is out of range or too large: send another."""


class NotFound(EarmarkError):
    """There is no such track."""


class RequestIdReused(EarmarkError):
    """Another call has had this `request_id`: give each change its own, or none."""


class Busy(EarmarkError):
    """The server has too much to do, or the key's limits are reached: try later.

    Raised after all retries. Of a server that gives no `reason` it may also mean that so much is
    never taken.
    """


class Unavailable(Busy):
    """The server is not there, or is stopping: see whether it runs, and the address is right.

    A server to which no connection can be made is tried until the call's time is over.
    """


class ConnectionFailed(EarmarkError):
    """Client and server do not come together: certificates or encryption do not fit.

    The message says what to change; the code is `UNAVAILABLE`. Not tried again: it would only fail
    again.
    """


class DeadlineExceeded(EarmarkError):
    """The call took longer than it was allowed to: allow more time, or send less."""


class Unauthenticated(EarmarkError):
    """The server wants a key, or does not know this one, or it was revoked or has expired."""


class PermissionDenied(EarmarkError):
    """The key does not allow this call; the message says which scope does."""


class FailedPrecondition(EarmarkError):
    """The server cannot do this as it was started, or has other fingerprint parameters."""


class Aborted(EarmarkError):
    """Another call came in between: it took the stream over, or removed the track."""


class ServerError(EarmarkError):
    """The server failed, is damaged, or is too old for the call: ask those who run it."""


_CLASSES: dict[str, type[EarmarkError]] = {
    "INVALID_ARGUMENT": InvalidAudioOrArgument,
    "NOT_FOUND": NotFound,
    "RESOURCE_EXHAUSTED": Busy,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "FAILED_PRECONDITION": FailedPrecondition,
    "ABORTED": Aborted,
    "CANCELLED": EarmarkError,
}
# Where the code alone does not say what the caller can do.
_CLASSES_BY_REASON: dict[str | None, type[EarmarkError]] = {
    "TOO_LARGE": InvalidAudioOrArgument,
    "REQUEST_ID_REUSED": RequestIdReused,
    "STORAGE_FULL": ServerError,
}

# What helps if no connection can be made, and will not be however often it is tried. The texts of
# grpcio are no contract: of one that is not recognised the caller gets the text alone, as
# Unavailable.
_UNTRUSTED_HINT = (
    "the server's certificate is not trusted; give its root as root_certificates, if it is none of"
    " the usual ones"
)
_MISFITS = (
    (re.compile("CERTIFICATE_VERIFY_FAILED"), _UNTRUSTED_HINT),
    (
        re.compile("Hostname Verification|is not in peer certificate"),
        "the server's certificate is for another name; take the name that stands in it as target",
    ),
    (
        re.compile("WRONG_VERSION_NUMBER"),
        "the server does not encrypt; take http:// and no certificates",
    ),
    (
        re.compile("create security handshaker"),
        "certificates cannot be used; private_key and certificate_chain must be a pair",
    ),
    (
        re.compile("Unwrap failed"),
        "the server wants another certificate, or one at all; give private_key and"
        " certificate_chain of a root that it trusts",
    ),
)
# No connection could be made, so that nothing of the call was sent.
_UNREACHED = re.compile("failed to connect|errors resolving|DNS resolution failed")
_UNREACHED_HINT = "no server can be reached; is it running, and is the address right?"
# A server that wants encryption does this to a client without, but one that is stopping too.
_HUNG_UP = re.compile("failed to connect .*(Socket closed|reset)")


def from_rpc_error(error: grpc.RpcError) -> EarmarkError:
    """The error that a failed call is told by."""
    if not isinstance(error, grpc.Call):
        # grpcio raises RpcErrors that are calls; anything else is a fault of its own.
        return ServerError(str(error), "UNKNOWN")
    code = error.code().name
    reason, retry_after_s = _details(error.trailing_metadata() or ())
    error_class = _CLASSES_BY_REASON.get(reason) or _CLASSES.get(code, ServerError)
    message = error.details() or ""
    if code == "UNAVAILABLE" and reason is None:
        hint = next((hint for pattern, hint in _MISFITS if pattern.search(message)), None)
        if hint is not None:
            return ConnectionFailed(f"{hint} ({message})", code)
        if _UNREACHED.search(message):
            message = f"{_UNREACHED_HINT} ({message})"
    return error_class(message, code, reason, retry_after_s)


def is_unreached(error: EarmarkError) -> bool:
    """Whether no connection could be made."""
    return (
        isinstance(error, Unavailable)
        and error.reason is None
        and _UNREACHED.search(error.message) is not None
    )


def has_hung_up(error: EarmarkError) -> bool:
    """Whether the other side closed a connection before anything could be said."""
    return is_unreached(error) and _HUNG_UP.search(error.message) is not None


def is_untrusted(error: EarmarkError) -> bool:
    """Whether the server's certificate was refused, for whatever reason."""
    return isinstance(error, ConnectionFailed) and error.message.startswith(_UNTRUSTED_HINT)


def _details(
    trailers: Iterable[tuple[str, str | bytes]],
) -> tuple[str | None, float | None]:
    """Reason and seconds to wait, of the status in the trailers."""
    reason: str | None = None
    retry_after_s: float | None = None
    for key, value in trailers:
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            for detail in status_pb2.Status.FromString(value).details:
                name = detail.type_url.rpartition("/")[2]
                if name == "google.rpc.ErrorInfo":
                    reason = status_pb2.ErrorInfo.FromString(detail.value).reason or None
                elif name == "google.rpc.RetryInfo":
                    delay = status_pb2.RetryInfo.FromString(detail.value).retry_delay
                    retry_after_s = delay.seconds + delay.nanos / 1e9
        except DecodeError:
            # Details are an extra: what cannot be read must not hide the error itself.
            continue
    return reason, retry_after_s
