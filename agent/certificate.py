"""A self-signed P-256 certificate, made with the standard library alone, for one run of the agent.

Nobody verifies it: authentication is the login's business, and the certificate is there because TLS wants one. It is
made afresh at each start and never stored, so there is nothing to renew, to pin or to steal from a disk.

This is NO general signer: its arithmetic does not take constant time. Here it multiplies twice with secrets that are
seconds old and signs one text, its own certificate; the signatures of TLS itself are OpenSSL's.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import field

from agent.wire.record import record

__all__ = ["Certificate", "make_certificate", "random_below"]

# NIST P-256 (FIPS 186-4, D.1.2.3): y^2 = x^3 - 3x + b over the integers modulo P; G generates a group of prime order N.
_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
_GY = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5


@record
class Certificate:
    """A certificate and its key: `der` as TLS shows it, `pem` both as `ssl` loads them."""

    der: bytes
    pem: bytes = field(repr=False)


def random_below(limit: int) -> int:
    """Return a random number of 0..limit-1, all equally likely: `secrets.randbelow` without the module's 150 KiB."""
    bits = limit.bit_length()
    while True:
        number = int.from_bytes(os.urandom((bits + 7) // 8), "big") >> (-bits % 8)
        if number < limit:
            return number


def make_certificate(*, random_below: Callable[[int], int] = random_below) -> Certificate:
    """Make a key pair and the certificate for it. `random_below(n)` returns a number of 0..n-1."""
    private = random_below(_N - 1) + 1
    x, y = _multiply(private)
    public = b"\4" + x.to_bytes(32, "big") + y.to_bytes(32, "big")  # uncompressed point (SEC 1, 2.3.3)
    to_be_signed = _certificate_body(public, serial=random_below(2**126) + 2**126)
    r, s = _sign(private, to_be_signed, random_below)
    der = _sequence(to_be_signed, _ECDSA_WITH_SHA256, _bit_string(_sequence(_integer(r), _integer(s))))
    # ECPrivateKey (RFC 5915, section 3).
    key = _sequence(
        _integer(1),
        _tagged(0x04, private.to_bytes(32, "big")),
        _tagged(0xA0, _P256),
        _tagged(0xA1, _bit_string(public)),
    )
    return Certificate(der, _pem("CERTIFICATE", der) + _pem("EC PRIVATE KEY", key))


# The curve. A point is (X, Y, Z) with x = X/Z^2 and y = Y/Z^3 (Jacobian), which saves an inversion for each step;
# Z = 0 is the neutral element. Formulas: Cohen, Miyaji and Ono 1998; hyperelliptic.org/EFD, "jacobian-3".

_Point = tuple[int, int, int]


def _double(point: _Point) -> _Point:
    x, y, z = point
    delta, gamma = z * z % _P, y * y % _P
    beta = x * gamma % _P
    alpha = 3 * (x - delta) * (x + delta) % _P
    x3 = (alpha * alpha - 8 * beta) % _P
    z3 = ((y + z) * (y + z) - gamma - delta) % _P
    return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % _P, z3


def _add_generator(point: _Point) -> _Point:
    """Add G. `point` must be neither G nor -G: the formula has no answer there."""
    x, y, z = point
    if z == 0:
        return _GX, _GY, 1
    zz = z * z % _P
    h = (_GX * zz - x) % _P
    r = (_GY * z * zz - y) % _P
    hh = h * h % _P
    hhh, v = h * hh % _P, x * hh % _P
    x3 = (r * r - hhh - 2 * v) % _P
    return x3, (r * (v - x3) - y * hhh) % _P, z * h % _P


def _multiply(scalar: int) -> tuple[int, int]:
    """Return scalar * G, for a scalar of 1..N-1, from the highest bit down.

    `_add_generator` is given only even multiples of G that are less than N - 1, so neither G nor -G.
    """
    point = (0, 1, 0)
    for bit in f"{scalar:b}":
        point = _double(point)
        if bit == "1":
            point = _add_generator(point)
    x, y, z = point
    inverse = pow(z, -1, _P)
    return x * inverse * inverse % _P, y * inverse * inverse * inverse % _P


def _sign(private: int, message: bytes, random_below: Callable[[int], int]) -> tuple[int, int]:
    """Sign with ECDSA and SHA-256 (FIPS 186-4, 6.4)."""
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    while True:
        nonce = random_below(_N - 1) + 1
        r = _multiply(nonce)[0] % _N
        s = pow(nonce, -1, _N) * (digest + r * private) % _N
        if r and s:
            return r, s


# DER (X.690): a tag, a length, a content.


def _tagged(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))  # room for the sign bit


def _bit_string(content: bytes) -> bytes:
    return _tagged(0x03, b"\0" + content)


_ECDSA_WITH_SHA256 = _sequence(_tagged(0x06, bytes.fromhex("2a8648ce3d040302")))  # 1.2.840.10045.4.3.2
_P256 = _tagged(0x06, bytes.fromhex("2a8648ce3d030107"))  # 1.2.840.10045.3.1.7
_EC_PUBLIC_KEY = _tagged(0x06, bytes.fromhex("2a8648ce3d0201"))  # 1.2.840.10045.2.1
_COMMON_NAME = _tagged(0x06, bytes.fromhex("550403"))  # 2.5.4.3
_NAME = _sequence(_tagged(0x31, _sequence(_COMMON_NAME, _tagged(0x0C, b"fleet-agent"))))

# From long ago to the date that stands for "no end" (RFC 5280, 4.1.2.5): a wrong clock must not lock anybody out.
_VALIDITY = _sequence(_tagged(0x17, b"200101000000Z"), _tagged(0x18, b"99991231235959Z"))


def _certificate_body(public: bytes, *, serial: int) -> bytes:
    """Return a TBSCertificate (RFC 5280, 4.1), version 3 without extensions."""
    version = _tagged(0xA0, _integer(2))
    public_key = _sequence(_sequence(_EC_PUBLIC_KEY, _P256), _bit_string(public))
    return _sequence(version, _integer(serial), _ECDSA_WITH_SHA256, _NAME, _VALIDITY, _NAME, public_key)


def _pem(label: str, der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]  # RFC 7468, section 2
    return b"\n".join([f"-----BEGIN {label}-----".encode(), *lines, f"-----END {label}-----\n".encode()])
