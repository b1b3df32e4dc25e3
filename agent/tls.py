"""The agent's side of TLS: one context for each run, with a certificate that lives in memory alone.

TLS gives secrecy and integrity here and no authentication at all; that is the login's, which binds itself to the
TLS connection. Nothing here opens a socket.
"""

from __future__ import annotations

import ssl

from agent.certificate import make_certificate
from agent.memfd import memory_file

__all__ = ["server_context"]


def server_context() -> tuple[ssl.SSLContext, bytes]:
    """Make a key, a certificate and a context that shows it. Returns the context and the certificate's DER."""
    certificate = make_certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Nobody resumes a session. Without tickets each login is a full handshake, which the channel binding is made of,
    # and one flight shorter.
    context.num_tickets = 0
    _load(context, certificate.pem)
    return context, certificate.der


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Hand the key to OpenSSL through an anonymous file in memory: `ssl` takes nothing but a file's name."""
    descriptor = memory_file("fleet-agent-tls")
    with open(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
