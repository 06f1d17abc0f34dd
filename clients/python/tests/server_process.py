"""A process of the real server, on a free port or a given one."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType

_START_S = 60.0
_STOP_S = 30.0


def own_environment() -> dict[str, str]:
    """The environment without the settings of whoever runs the tests, OpenTelemetry's included."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EARMARK_", "OTEL_"))
    }


class ServerProcess:
    """Runs the server while the `with` block lasts."""

    def __init__(self, binary: str, index: Path, *options: str, port: int = 0) -> None:
        self._command = [binary, "--index", str(index), *options]
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it, and waits until it listens: again on the port that it had the first time."""
        self._process = subprocess.Popen(
            [*self._command, "--listen", f"127.0.0.1:{self._port}"],
            env=own_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        addresses: Queue[str] = Queue()
        # The log is read to its end, so that the server never waits for a full pipe.
        threading.Thread(target=self._read_log, args=(addresses,), daemon=True).start()
        try:
            self.address = addresses.get(timeout=_START_S)
        except Empty:
            self.stop()
            raise AssertionError("the server does not listen") from None
        assert self.address, "the server has ended; its log stands above"
        self._port = int(self.address.rpartition(":")[2])

    def _read_log(self, addresses: Queue[str]) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        with self._process.stderr as log:
            for line in log:
                print(line, end="")
                found = re.search(r"listening on (\S+)", line)
                if found:
                    addresses.put(found.group(1))
        addresses.put("")

    def stop(self) -> None:
        """Lets it finish what it has begun."""
        if self._process is not None:
            self._process.terminate()
            self._wait()

    def kill(self) -> None:
        """Ends it at once."""
        if self._process is not None:
            self._process.kill()
            self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(_STOP_S)
        finally:
            self._process.kill()
            self._process.wait()
