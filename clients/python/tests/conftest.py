"""What tests share: a real server, its catalog, and audio."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from earmark_client import Client
from server_process import ServerProcess

TESTDATA = Path(__file__).resolve().parents[3] / "testdata"


@pytest.fixture(scope="session")
def server_binary() -> str:
    binary = os.environ.get("EARMARK_SERVER")
    if not binary:
        pytest.fail(
            "set EARMARK_SERVER to the program earmark-server, such as"
            " ~/.cache/earmark/target/release/earmark-server after `make demo`",
            pytrace=False,
        )
    return os.path.expanduser(binary)


@pytest.fixture(scope="session")
def earmark_binary(server_binary: str) -> str:
    """The program that makes keys."""
    binary = Path(server_binary).with_name("earmark")
    if not binary.is_file():
        pytest.fail(
            "the program earmark must be beside EARMARK_SERVER, where `cargo build --workspace`"
            " puts it",
            pytrace=False,
        )
    return str(binary)


@pytest.fixture
def server(server_binary: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with an empty catalog."""
    with ServerProcess(server_binary, tmp_path / "index") as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the server with an empty catalog."""
    with Client(server.address) as client:
        yield client


@pytest.fixture(scope="session")
def catalog_server(
    server_binary: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server with the test catalog, whose tracks are named as their files. Do not change it."""
    with ServerProcess(server_binary, tmp_path_factory.mktemp("catalog") / "index") as process:
        with Client(process.address) as client:
            paths = sorted((TESTDATA / "catalog").iterdir())
            for result in client.ingest(paths, lambda path: {"track_id": path.stem}):
                assert result.error is None, result
        yield process


@pytest.fixture
def catalog_client(catalog_server: ServerProcess) -> Iterator[Client]:
    """A client of the server with the test catalog."""
    with Client(catalog_server.address) as client:
        yield client


@pytest.fixture(scope="session")
def testdata() -> Path:
    """The folder of test audio."""
    return TESTDATA
