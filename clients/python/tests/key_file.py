"""A file of keys, made and changed by the real program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from server_process import own_environment


class KeyFile:
    """Keys of a server that is started with `options`."""

    def __init__(self, binary: str, path: Path) -> None:
        self._binary = binary
        self._path = path
        self.options = ("--keys", str(path))

    def create(self, scope: str, *limits: str) -> str:
        """Makes a key, and returns it as it is printed, line end included."""
        return self._run("create", "--name", "tests", "--scope", scope, *limits)

    def revoke(self, key: str) -> None:
        """The server takes notice within some seconds."""
        self._run("revoke", key_id(key))

    def _run(self, *arguments: str) -> str:
        command = [self._binary, "keys", *arguments, "--keys", str(self._path)]
        environment = own_environment()
        done = subprocess.run(
            command, check=True, env=environment, stdout=subprocess.PIPE, text=True
        )
        return done.stdout


def key_id(key: str) -> str:
    """The part of a key that is no secret."""
    return key.split("_")[1]


def secret(key: str) -> str:
    """The part of a key that nobody else may see."""
    return key.split("_")[2].strip()
