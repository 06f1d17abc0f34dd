"""Targets, encryption and tokens."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import trustme

from earmark_client import Busy, Client, EarmarkError
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
            with pytest.raises(Busy):
                client.stats()
        with Client(address, retries=0) as client, pytest.raises(Busy):
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
