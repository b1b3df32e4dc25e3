"""The certificate: right on the curve, right in DER, and taken by OpenSSL every time."""

from __future__ import annotations

import base64
import hashlib
import random
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from agent import certificate
from agent.certificate import Certificate, make_certificate, random_below

# NIST P-256 test vectors for k * G (NSA, "Mathematical routines for the NIST prime elliptic curves", and small k).
MULTIPLES = [
    (
        2,
        "7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978",
        "07775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1",
    ),
    (
        112233445566778899,
        "339150844ec15234807fe862a86be77977dbfb3ae3d96f4c22795513aeaab82f",
        "b1c14ddfdc8ec1b2583f51e85a5eb3a155840f2034730e9b5ada38b674336a21",
    ),
    (
        certificate._N - 1,  # -G
        f"{certificate._GX:064x}",
        f"{certificate._P - certificate._GY:064x}",
    ),
    (1, f"{certificate._GX:064x}", f"{certificate._GY:064x}"),
]


def load(made: Certificate, path: Path) -> None:
    """Have OpenSSL read both; it checks that the key belongs to the certificate."""
    path.write_bytes(made.pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)


def openssl(*arguments: object) -> str:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    command = [program, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


@pytest.mark.parametrize(("scalar", "x", "y"), MULTIPLES)
def test_known_multiples_of_the_generator(scalar: int, x: str, y: str) -> None:
    assert certificate._multiply(scalar) == (int(x, 16), int(y, 16))


def test_a_hundred_load(tmp_path: Path) -> None:
    seen = set()
    for _ in range(100):
        made = make_certificate()
        load(made, tmp_path / "both.pem")
        seen.add(made.der)
    assert len(seen) == 100


@pytest.mark.parametrize("byte", [0x00, 0x7F, 0x80, 0xFF])
def test_numbers_at_the_edges_of_der_load(tmp_path: Path, byte: int) -> None:
    """Leading zeros, and highest bits that would read as a sign, in key, serial and nonce."""
    for length in (1, 16, 31, 32):
        made = make_certificate(random_below=lambda limit, n=length: int.from_bytes(bytes([byte]) * n, "big") % limit)
        load(made, tmp_path / "both.pem")


def test_a_signature_with_a_zero_is_made_anew() -> None:
    """With these two a nonce of 1 gives s = 0, which no verifier takes."""
    message = b"message"
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    private = -digest * pow(certificate._GX, -1, certificate._N) % certificate._N
    numbers = iter([0, 1])
    r, s = certificate._sign(private, message, lambda limit: next(numbers))
    assert r == certificate._multiply(2)[0] % certificate._N
    assert s == (digest + r * private) * pow(2, -1, certificate._N) % certificate._N


def test_the_pem_holds_the_der() -> None:
    made = make_certificate(random_below=random.Random(1).randrange)
    assert made == make_certificate(random_below=random.Random(1).randrange)
    text = made.pem.decode()
    first, _, key = text.partition("-----END CERTIFICATE-----\n")
    assert base64.b64decode(first.removeprefix("-----BEGIN CERTIFICATE-----\n")) == made.der
    assert key.startswith("-----BEGIN EC PRIVATE KEY-----\n")
    assert max(map(len, text.splitlines())) == 64
    assert ssl.PEM_cert_to_DER_cert(first + "-----END CERTIFICATE-----\n") == made.der


def test_repr_hides_the_key() -> None:
    assert "PRIVATE" not in repr(make_certificate())


def test_openssl_reads_and_verifies_it(tmp_path: Path) -> None:
    path = tmp_path / "both.pem"
    path.write_bytes(make_certificate().pem)
    text = openssl("x509", "-in", path, "-noout", "-text")
    for line in (
        "Version: 3 (0x2)",
        "Signature Algorithm: ecdsa-with-SHA256",
        "Subject: CN = fleet-agent",
        "Not After : Dec 31 23:59:59 9999 GMT",
        "ASN1 OID: prime256v1",
    ):
        assert line.replace(" ", "") in text.replace(" ", "")
    assert openssl("verify", "-CAfile", path, path) == f"{path}: OK\n"  # its own signature holds
    assert openssl("x509", "-in", path, "-noout", "-pubkey") == openssl("pkey", "-in", path, "-pubout")
    openssl("ec", "-in", path, "-noout", "-check")


def test_a_random_number_is_below_its_limit_and_every_one_of_them_comes() -> None:
    assert {random_below(3) for _ in range(200)} == {0, 1, 2}
    assert random_below(1) == 0
    assert all(random_below(2**126 + 1) <= 2**126 for _ in range(100))
