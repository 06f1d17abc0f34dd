"""A connection to a server: target, encryption, token, and calls with deadline and retries."""

from __future__ import annotations

import re
import threading
import time
from typing import Callable, NamedTuple, TypeVar
from urllib.parse import urlsplit

import grpc

from ._generated.earmark.v1.catalog_pb2_grpc import CatalogServiceStub
from ._generated.earmark.v1.match_service_pb2_grpc import MatchServiceStub
from ._look import encrypts, wrong_time
from ._retry import Backoff
from .errors import (
    ConnectionFailed,
    EarmarkError,
    from_rpc_error,
    has_hung_up,
    is_untrusted,
)

Answer = TypeVar("Answer")

_DEFAULT_PORTS = {"http": 80, "https": 443}

# What a header can carry as one word.
_TOKEN = re.compile(r"[!-~]+")

_CHANNEL_OPTIONS = [
    # An answer is as large as max_matches and the metadata of the tracks make it.
    ("grpc.max_receive_message_length", -1),
    # grpcio waits longer from one failed connection to the next than a call is retried; meanwhile
    # every retry would fail without having been tried.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A server that vanishes without a word would leave a stream waiting for ever.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.primary_user_agent", "earmark-client-python"),
]


class Target(NamedTuple):
    """Where a server is."""

    address: str
    is_encrypted: bool


def parse_target(target: str) -> Target:
    """Reads `host:port`, or a URL with `http` or `https`. Raises ValueError if it is neither."""
    if "@" in target or "?" in target:
        # The target is not repeated: it may hold a password, or a key.
        raise ValueError(
            "the target has more than an address; give HOST:PORT, http://HOST:PORT or"
            " https://HOST:PORT, and a key as token"
        )
    has_scheme = "://" in target
    url = urlsplit(target if has_scheme else f"//{target}")
    port = url.port or _DEFAULT_PORTS.get(url.scheme)
    has_more = url.path not in ("", "/") or url.fragment
    if (
        (has_scheme and url.scheme not in _DEFAULT_PORTS)
        or not url.hostname
        or not port
        or has_more
    ):
        raise ValueError(
            f"{target!r} is no address of a server; give HOST:PORT, http://HOST:PORT or"
            " https://HOST:PORT"
        )
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return Target(f"{host}:{port}", url.scheme == "https")


def bearer(token: str | None) -> tuple[tuple[str, str], ...]:
    """The metadata that shows a token. Raises ValueError, which does not show it, if it is none."""
    if token is None:
        return ()
    # Files end with a line end.
    word = token.strip()
    if not _TOKEN.fullmatch(word):
        # Some releases of grpcio would refuse it too, but repeat it.
        raise ValueError(
            "token is empty, or not one word of ASCII characters; give the key alone, as"
            " `earmark keys create` prints it"
        )
    return (("authorization", f"Bearer {word}"),)


def check_certificates(
    root_certificates: bytes | None, private_key: bytes | None, certificate_chain: bytes | None
) -> None:
    """Raises ValueError of what grpcio would not tell, or would end the process for."""
    wanted = (
        ("root_certificates", root_certificates, b"CERTIFICATE"),
        ("private_key", private_key, b"PRIVATE KEY"),
        ("certificate_chain", certificate_chain, b"CERTIFICATE"),
    )
    for name, pem, kind in wanted:
        if pem is not None and kind + b"-----" not in pem:
            raise ValueError(f"{name} holds no {kind.decode().lower()} in PEM")
    if (private_key is None) != (certificate_chain is None):
        raise ValueError("private_key and certificate_chain go together; give both")


class Connection:
    """A channel with its stubs."""

    def __init__(
        self,
        target: str,
        token: str | None,
        root_certificates: bytes | None,
        private_key: bytes | None,
        certificate_chain: bytes | None,
        timeout_s: float,
        retries: int,
    ) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s}, it must be above 0")
        if retries < 0:
            raise ValueError(f"retries is {retries}, it must be 0 or more")
        address, is_encrypted = parse_target(target)
        self.metadata = bearer(token)
        certificates = (root_certificates, private_key, certificate_chain)
        check_certificates(*certificates)
        self._address = address
        self._roots = root_certificates
        self._is_encrypted = is_encrypted or any(part is not None for part in certificates)
        if self._is_encrypted:
            credentials = grpc.ssl_channel_credentials(*certificates)
            self._channel = grpc.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self.timeout_s = timeout_s
        self.retries = retries
        self.matches = MatchServiceStub(self._channel)
        self.catalog = CatalogServiceStub(self._channel)
        self._health: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check"
        )
        self._is_closed = threading.Event()

    def close(self) -> None:
        """Ends all calls and closes the channel."""
        self._is_closed.set()
        self._channel.close()

    def call(self, attempt: Callable[[float], Answer], timeout_s: float | None) -> Answer:
        """Runs `attempt`, which is given the seconds that are left, again until it succeeds.

        Raises an EarmarkError once it must not be tried again.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        if not limit_s > 0:
            raise ValueError(f"timeout_s is {limit_s}, it must be above 0")
        backoff = Backoff(self.retries, time.monotonic() + limit_s)
        while True:
            try:
                return attempt(backoff.remaining_s)
            except grpc.RpcError as error:
                failure = self.failure(error, backoff.remaining_s)
                pause_s = backoff.pause_s(failure)
                if pause_s is None:
                    raise failure from error
            self.pause(failure, pause_s, self._is_closed)
            if self._is_closed.is_set():
                raise failure

    def failure(self, error: grpc.RpcError, limit_s: float) -> EarmarkError:
        """What a call failed of. Looks at the server, if grpcio does not tell, for `limit_s`."""
        failure = from_rpc_error(error)
        hint = None
        if not self._is_encrypted and has_hung_up(failure):
            if encrypts(self._address, limit_s):
                hint = "the server encrypts; take https://"
        elif is_untrusted(failure):
            hint = wrong_time(self._address, self._roots, limit_s)
        if hint is None:
            return failure
        return ConnectionFailed(f"{hint} ({error.details()})", failure.code)

    def pause(self, failure: EarmarkError, pause_s: float, ending: threading.Event) -> None:
        """Waits until a call that failed may be tried again, or `ending` is set."""
        connecting = None
        if failure.code == "UNAVAILABLE":
            # Many releases of grpcio work at a broken connection only while a call waits for it,
            # and would leave it broken in a mere pause. What is answered does not matter.
            connecting = self._health.future(b"", timeout=max(pause_s, 0.001), wait_for_ready=True)
        ending.wait(pause_s)
        if connecting is not None:
            connecting.cancel()
