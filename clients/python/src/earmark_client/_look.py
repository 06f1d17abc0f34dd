"""A look at a server by hand, for what grpcio does not tell."""

from __future__ import annotations

import socket
import ssl

_TIME_MAX_S = 2.0


def encrypts(address: str) -> bool:
    """Whether the server at `host:port` speaks TLS; False if it cannot be found out."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is said to the server, so that it need not be trusted.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _TIME_MAX_S) as plain:
            with context.wrap_socket(plain):
                return True
    except ssl.SSLError as error:
        # It may answer that it wants a certificate of ours.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
