"""Encryption, against the real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import pytest
import trustme

from audio import RATE_HZ, silence
from certificates import issue, tls_options
from earmark_client import (
    Client,
    ConnectionFailed,
    EarmarkError,
    Pcm,
    Started,
    Unauthenticated,
)
from fake_server import fake_server
from key_file import KeyFile
from proxy import Proxy
from server_process import ServerProcess

# What the server's addresses begin with, and so the name that its certificate must have.
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def roots(authority: trustme.CA) -> bytes:
    return authority.cert_pem.bytes()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    """A root that neither the server nor the client knows."""
    return trustme.CA()


@pytest.fixture(scope="module")
def server(
    server_binary: str, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server with an empty catalog, whose certificate is of the root."""
    folder = tmp_path_factory.mktemp("tls")
    options = tls_options(folder, issue(authority, HOST))
    with ServerProcess(server_binary, folder / "index", *options) as process:
        yield process


def what_fails(client: Client) -> str:
    """What is told of a connection that cannot be made."""
    with client, pytest.raises(EarmarkError) as caught:
        client.stats()
    assert type(caught.value) is ConnectionFailed
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", None)
    return caught.value.message


def test_a_root_of_our_own_is_trusted(server: ServerProcess, roots: bytes) -> None:
    for target in (f"https://{server.address}", server.address):
        with Client(target, root_certificates=roots) as client:
            assert client.stats().track_count == 0
            events = list(client.match_stream([silence(2)], format=Pcm(RATE_HZ)))
            assert isinstance(events[0], Started)
            assert events[-1].heard_s == pytest.approx(2)


def test_another_root_is_not_trusted(server: ServerProcess, stranger: trustme.CA) -> None:
    for roots in (None, stranger.cert_pem.bytes()):
        client = Client(f"https://{server.address}", root_certificates=roots)
        assert "give its root as root_certificates" in what_fails(client)


def test_a_stream_says_what_is_not_trusted(server: ServerProcess) -> None:
    with Client(f"https://{server.address}", retries=0) as client:
        with pytest.raises(ConnectionFailed, match="root_certificates"):
            next(client.match_stream([silence(1)], format=Pcm(RATE_HZ)))


def test_what_cannot_get_better_is_not_tried_again(server: ServerProcess) -> None:
    with Proxy(server.address) as proxy:
        target = f"https://{proxy.address}"
        start_s = time.monotonic()
        assert "root_certificates" in what_fails(Client(target, retries=10**6, timeout_s=60))
        # Far less than the pauses of a few retries.
        assert time.monotonic() - start_s < 10


def test_a_certificate_for_another_name_is_told(
    server_binary: str, authority: trustme.CA, roots: bytes, tmp_path: Path
) -> None:
    options = tls_options(tmp_path, issue(authority, "elsewhere.example"))
    with ServerProcess(server_binary, tmp_path / "index", *options) as server:
        client = Client(f"https://{server.address}", root_certificates=roots, retries=0)
        assert "is for another name" in what_fails(client)


def test_a_certificate_whose_time_is_not_now_is_told(
    server_binary: str, authority: trustme.CA, roots: bytes, tmp_path: Path
) -> None:
    now, day = datetime.now(timezone.utc), timedelta(days=1)
    for begin, end, told in (
        (now - 9 * day, now - day, "has expired; whoever runs the server must renew it"),
        (now + day, now + 9 * day, "is not valid yet; is the clock of this machine right?"),
    ):
        own = issue(authority, "localhost", not_before=begin, not_after=end)
        credentials = grpc.ssl_server_credentials([own])
        with fake_server(credentials=credentials) as address:
            assert told in what_fails(Client(address, root_certificates=roots))


def test_who_encrypts_and_who_does_not_are_told_apart(
    server: ServerProcess, server_binary: str, roots: bytes, tmp_path: Path
) -> None:
    start_s = time.monotonic()
    client = Client(f"http://{server.address}", retries=10**6, timeout_s=60)
    assert "take https://" in what_fails(client)
    assert time.monotonic() - start_s < 10
    with Client(server.address) as client:
        with pytest.raises(ConnectionFailed, match="take https://"):
            next(client.match_stream([silence(1)], format=Pcm(RATE_HZ)))
    with ServerProcess(server_binary, tmp_path / "index") as plain:
        client = Client(f"https://{plain.address}", root_certificates=roots, retries=0)
        assert "does not encrypt" in what_fails(client)


def test_a_key_is_shown_over_an_encrypted_connection(
    server_binary: str, earmark_binary: str, authority: trustme.CA, roots: bytes, tmp_path: Path
) -> None:
    keys = KeyFile(earmark_binary, tmp_path / "keys.toml")
    key = keys.create("match")
    options = [*tls_options(tmp_path, issue(authority, HOST)), *keys.options]
    with ServerProcess(server_binary, tmp_path / "index", *options) as server:
        target = f"https://{server.address}"
        with Client(target, root_certificates=roots, token=key) as client:
            assert client.stats().track_count == 0
        with Client(target, root_certificates=roots) as client, pytest.raises(Unauthenticated):
            client.stats()


def test_client_and_server_show_each_other_certificates(
    server_binary: str,
    authority: trustme.CA,
    roots: bytes,
    stranger: trustme.CA,
    tmp_path: Path,
) -> None:
    # The clients' root need not be the server's.
    clients = trustme.CA()
    options = tls_options(tmp_path, issue(authority, HOST), clients.cert_pem.bytes())
    with ServerProcess(server_binary, tmp_path / "index", *options) as server:
        target = f"https://{server.address}"
        own = issue(clients, "client@example.org")._asdict()
        with Client(target, root_certificates=roots, **own) as client:
            assert client.stats().track_count == 0
            events = list(client.match_stream([silence(1)], format=Pcm(RATE_HZ)))
            assert isinstance(events[0], Started)
        for wrong in ({}, issue(stranger, "client@example.org")._asdict()):
            client = Client(target, root_certificates=roots, **wrong)
            assert "give private_key and certificate_chain" in what_fails(client)
        # Whom to trust is not settled by a certificate of one's own.
        assert "root_certificates" in what_fails(Client(target, retries=0, **own))
