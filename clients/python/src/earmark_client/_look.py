"""A look at a server by hand, for what grpcio does not tell, or not in all its releases."""

from __future__ import annotations

import socket
import ssl
import time

_TIME_MAX_S = 2.0

# By OpenSSL's numbers of what is wrong with a certificate (X509_V_ERR_…).
_WRONG_TIMES = {
    9: "the server's certificate is not valid yet; is the clock of this machine right?",
    10: "the server's certificate has expired; whoever runs the server must renew it",
}


def encrypts(address: str, limit_s: float) -> bool:
    """Whether the server at `host:port` speaks TLS; False if it cannot be found out in time."""
    context = _context()
    # Nothing is said to the server, so that it need not be trusted.
    context.verify_mode = ssl.CERT_NONE
    try:
        _shake_hands(address, context, limit_s)
    except ssl.SSLError as error:
        # It may answer that it wants a certificate of ours.
        return "ALERT" in (error.reason or "")
    except (OSError, ValueError):
        return False
    return True


def wrong_time(address: str, roots: bytes | None, limit_s: float) -> str | None:
    """What is to be said if the time of the server's certificate is over, or has not begun.

    None also if it cannot be found out in time.
    """
    context = _context()
    try:
        if roots is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=roots.decode("ascii", "ignore"))
        _shake_hands(address, context, limit_s)
    except ssl.SSLCertVerificationError as error:
        return _WRONG_TIMES.get(error.verify_code)
    except (OSError, ValueError):
        return None
    return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    return context


def _shake_hands(address: str, context: ssl.SSLContext, limit_s: float) -> None:
    end_s = time.monotonic() + min(limit_s, _TIME_MAX_S)
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    failure: OSError = OSError(f"{host} has no address")
    places = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    for family, kind, protocol, _, place in places:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            break
        with socket.socket(family, kind, protocol) as plain:
            plain.settimeout(left_s)
            try:
                plain.connect(place)
            except OSError as error:
                failure = error
                continue
            plain.settimeout(max(end_s - time.monotonic(), 0.001))
            with context.wrap_socket(plain, server_hostname=host):
                return
    raise failure
