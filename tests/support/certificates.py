"""Certificates for servers of tests: an authority of our own, and what it signs, for minutes."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = dt.datetime.now(dt.UTC)


class Signed(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _made(name: str, names: tuple[str, ...], signer: Signed | None, days: int) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=30))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if signer is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
        )
    return Signed(builder.sign(signer.key if signer else key, hashes.SHA256()), key)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@cache
def authority() -> Signed:
    return _made("Authority of the tests", (), None, 1)


def trusting() -> ssl.SSLContext:
    """What trusts our authority and nobody else."""
    return ssl.create_default_context(cadata=authority().certificate.public_bytes(serialization.Encoding.PEM).decode())


def serving(folder: Path, *names: str, days: int = 1) -> ssl.SSLContext:
    """For a server of these names and addresses; with `days` below zero its certificate is over."""
    made = _made("server", names or ("127.0.0.1",), authority(), days)
    path = folder / f"server-{made.certificate.serial_number}.pem"
    path.write_bytes(
        made.certificate.public_bytes(serialization.Encoding.PEM)
        + made.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
