"""What everything else in compose.yaml needs: ``prepare.py SECRETS CONFIG COMPOSE``. What is there already stays as it is.

Into SECRETS an authority, a certificate for each end, and passwords; into CONFIG the two files of COMPOSE.
"""

import os
import secrets
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# The users of the images postgres and phiproxy; the first is a member of the second's group where it reads phi.sql.
POSTGRES, PHIPROXY = 999, 65532


def write(path: Path, content: bytes, owner: int) -> None:
    """Write a file that only its owner may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    give(path, owner)


def give(path: Path, owner: int) -> None:
    """Give a file to the user of an image, where that can be done."""
    if os.getuid() == 0:
        os.chown(path, owner, owner)


def certificate(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate for a host, or for the authority itself where both keys are one."""
    now, own = datetime.now(UTC), key is signer
    subject = issuer if own else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=825))
        .add_extension(x509.BasicConstraints(ca=own, path_length=0 if own else None), critical=True)
    )
    if not own:
        hosts = [x509.DNSName(host) for host in (name, "localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def main(target: Path, config: Path, source: Path) -> None:
    """Make what is missing."""
    for name in ("phiproxy.yaml", "policy.yaml"):
        if not (config / name).exists():
            shutil.copy(source / name, config / name)
    for path in (config, *config.iterdir()):
        give(path, PHIPROXY)
    if (target / "ca.pem").exists():
        return
    authority, issuer = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clinic")])
    for name, owner in (("postgres", POSTGRES), ("phiproxy", PHIPROXY)):
        key = ec.generate_private_key(ec.SECP256R1())
        write(target / f"{name}.key", pem(key), owner)
        write(target / f"{name}.pem", certificate(name, issuer, key, authority), owner)
    for name, owner in (("postgres", POSTGRES), ("service", POSTGRES), ("app", POSTGRES)):
        write(target / f"{name}.password", secrets.token_urlsafe(18).encode(), owner)
    # read by both: the proxy logs in with it, and PostgreSQL's first start sets it
    (target / "service.password").chmod(0o644)
    write(target / "ca.pem", certificate("clinic", issuer, authority, authority), PHIPROXY)
    (target / "ca.pem").chmod(0o644)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
