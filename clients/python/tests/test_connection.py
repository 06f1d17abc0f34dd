"""Targets, encryption and tokens."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import grpc
import pytest
import trustme

from certificates import issue
from earmark_client import Client, ConnectionFailed, EarmarkError, Pcm
from earmark_client._connection import parse_target
from earmark_client._generated.earmark.v1 import catalog_pb2
from fake_server import fake_server


@pytest.mark.parametrize(
    ("target", "address", "is_encrypted"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", False),
        ("localhost:50051", "localhost:50051", False),
        ("[::1]:50051", "[::1]:50051", False),
        ("http://host:1234", "host:1234", False),
        ("http://host:1234/", "host:1234", False),
        ("http://host", "host:80", False),
        ("https://host:1234", "host:1234", True),
        ("https://host", "host:443", True),
        ("https://[::1]:1234", "[::1]:1234", True),
    ],
)
def test_targets_are_read(target: str, address: str, is_encrypted: bool) -> None:
    assert parse_target(target) == (address, is_encrypted)


@pytest.mark.parametrize(
    "target",
    [
        *("", "host", ":50051", "host:", "host:x", "host:70000", "ftp://host:1", "unix:///socket"),
        *("http://", "http://host:1/path", "http://user@host:1", "http://host:1?query"),
    ],
)
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|[Pp]ort"):
        Client(target)


@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"timeout_s": -1}, {"retries": -1}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Client("localhost:1", **options)


def test_a_look_at_a_server_does_not_outlast_the_call() -> None:
    """A server that hangs up is looked at; a look that is not answered ends with the call."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up_on_http2() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    if connection.recv(1) == b"P":
                        connection.close()
                    else:
                        held.append(connection)

        threading.Thread(target=hang_up_on_http2, daemon=True).start()
        host, port = listener.getsockname()
        with Client(f"{host}:{port}", retries=0, timeout_s=1.0) as client:
            start_s = time.monotonic()
            with pytest.raises(EarmarkError):
                client.stats()
            assert time.monotonic() - start_s < 1.9
        # It was looked at indeed.
        assert held
        for connection in held:
            connection.close()


class Listening:
    """Answers GetStats, and keeps the metadata of the calls."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str | bytes]] = []

    def __call__(
        self, request: catalog_pb2.GetStatsRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.GetStatsResponse:
        self.metadata.append(dict(context.invocation_metadata()))
        return catalog_pb2.GetStatsResponse(track_count=7)


def test_the_token_goes_with_each_call() -> None:
    get_stats = Listening()
    with fake_server(GetStats=get_stats) as address:
        with Client(address, token="secret") as client:
            assert client.stats().track_count == 7
        with Client(f"http://{address}") as client:
            client.stats()
    with_token, without = get_stats.metadata
    assert with_token["authorization"] == "Bearer secret"
    assert "authorization" not in without
    assert str(without["user-agent"]).startswith("earmark-client-python")


@pytest.mark.parametrize("token", ["secret\n", "\r\n secret\t"])
def test_white_space_around_a_token_does_not_matter(token: str) -> None:
    get_stats = Listening()
    with fake_server(GetStats=get_stats) as address, Client(address, token=token) as client:
        client.stats()
    assert get_stats.metadata[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "token", ["", " \n", "Bearer secret", "secret\nsecret", "secret\0", "\ufeffsecret", "secrét"]
)
def test_what_is_no_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="token") as caught:
        Client("localhost:1", token=token)
    assert "secret" not in repr(caught.value)
    assert "secrét" not in repr(caught.value)


@pytest.mark.parametrize(
    "target", ["http://me:secret@host:1", "me:se/secret@host:1", "host:1?secret"]
)
def test_what_a_target_must_not_hold_is_not_shown(target: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT") as caught:
        Client(target)
    assert "secret" not in repr(caught.value)


def test_clients_do_not_show_their_secrets() -> None:
    authority = trustme.CA()
    own = issue(authority, "client@example.org")
    with Client("localhost:1", token="secret", **own._asdict()) as client:
        shown = f"{client!r} {client} {client._connection!r}"
        stream = client.match_stream([], format=Pcm(8000))
        shown += f"{stream!r} {stream}"
        stream.close()
    assert "secret" not in shown
    assert "PRIVATE" not in shown


def test_certificates_that_are_none_are_refused() -> None:
    authority = trustme.CA()
    key, chain = issue(authority, "client@example.org")
    refused: list[tuple[str, dict[str, bytes]]] = [
        ("root_certificates holds no certificate", {"root_certificates": b""}),
        ("root_certificates holds no certificate", {"root_certificates": b"ca.pem"}),
        ("private_key holds no", {"private_key": chain, "certificate_chain": key}),
        ("certificate_chain holds no", {"private_key": key, "certificate_chain": key}),
        ("give both", {"private_key": key}),
        ("give both", {"certificate_chain": chain}),
    ]
    for text, certificates in refused:
        with pytest.raises(ValueError, match=text) as caught:
            Client("localhost:1", **certificates)  # type: ignore[arg-type]
        assert "-----" not in repr(caught.value)


def test_encrypted_connections_are_made_with_the_given_roots() -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    roots = authority.cert_pem.bytes()
    credentials = grpc.ssl_server_credentials([(key, chain)])
    with fake_server(credentials=credentials, GetStats=Listening()) as address:
        for target in (f"https://{address}", address):
            with Client(target, root_certificates=roots, token="secret") as client:
                assert client.stats().track_count == 7
        strangers = trustme.CA().cert_pem.bytes()
        with Client(address, root_certificates=strangers, retries=0) as client:
            with pytest.raises(ConnectionFailed):
                client.stats()
        with Client(address, retries=0) as client:
            with pytest.raises(ConnectionFailed, match="take https://"):
                client.stats()


def test_clients_show_their_own_certificate_if_they_have_one() -> None:
    authority = trustme.CA()
    server, own = authority.issue_cert("localhost"), authority.issue_cert("client@example.org")
    roots = authority.cert_pem.bytes()
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())],
        root_certificates=roots,
        require_client_auth=True,
    )
    with fake_server(credentials=credentials, GetStats=Listening()) as address:
        with Client(
            address,
            root_certificates=roots,
            private_key=own.private_key_pem.bytes(),
            certificate_chain=own.cert_chain_pems[0].bytes(),
        ) as client:
            assert client.stats().track_count == 7
        with Client(address, root_certificates=roots, retries=0) as client:
            with pytest.raises(EarmarkError):
                client.stats()
