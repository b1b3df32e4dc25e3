"""The agent's TLS context, spoken to by a client in memory."""

from __future__ import annotations

import os
import ssl

import pytest

from agent.tls import server_context


def client_context(newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = newest
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject, int]:
    """Return both ends after their handshake, and how many bytes the server then still had for the client."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    return *ends, to_client.pending


def test_tls_1_3_with_our_certificate_and_without_tickets() -> None:
    context, der = server_context()
    client, server, left = shake_hands(context, client_context())
    assert client.version() == server.version() == "TLSv1.3"
    assert client.getpeercert(binary_form=True) == der
    assert left == 0  # a ticket would be waiting here
    binding = client.get_channel_binding("tls-unique")
    assert binding is not None
    assert len(binding) >= 32
    assert binding == server.get_channel_binding("tls-unique")


def test_an_older_tls_is_refused() -> None:
    context, _ = server_context()
    with pytest.raises(ssl.SSLError):
        shake_hands(context, client_context(ssl.TLSVersion.TLSv1_2))


def test_each_start_has_another_certificate() -> None:
    assert server_context()[1] != server_context()[1]


def test_the_key_is_nowhere_after_loading() -> None:
    before = set(os.listdir("/proc/self/fd"))
    server_context()
    assert set(os.listdir("/proc/self/fd")) == before
