"""Certificates that tests make themselves."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import trustme


class Own(NamedTuple):
    """A certificate and its key, PEM."""

    private_key: bytes
    certificate_chain: bytes


def issue(
    authority: trustme.CA,
    *names: str,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> Own:
    """A certificate for these names, of that root; valid now, or between these times."""
    certificate = authority.issue_cert(*names, not_before=not_before, not_after=not_after)
    return Own(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())


def tls_options(folder: Path, own: Own, client_root: bytes | None = None) -> list[str]:
    """What a server is started with that has this certificate, written to files in `folder`."""
    files = {"--tls-key": own.private_key, "--tls-cert": own.certificate_chain}
    if client_root is not None:
        files["--tls-client-ca"] = client_root
    options = []
    for option, pem in files.items():
        path = folder / f"{option.lstrip('-')}.pem"
        path.write_bytes(pem)
        options += [option, str(path)]
    return options
