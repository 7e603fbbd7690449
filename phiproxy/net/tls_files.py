"""The files of ``tls``: that they are what they must be, and which of them is not."""

import os
import ssl
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from phiproxy.errors import ConfigError


def load_pair(context: ssl.SSLContext, certificate: Path, private_key: Path) -> None:
    """Load a certificate and its key into a context; ConfigError that names the file that cannot be used."""
    _check_private(private_key)
    try:
        # A passphrase would be asked for at the terminal.
        context.load_cert_chain(certificate, private_key, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(_culprit(certificate, private_key, error)) from None


def load_authorities(context: ssl.SSLContext, file: Path) -> None:
    """Load the authorities that clients' certificates must be from; ConfigError when the file cannot be used."""
    try:
        context.load_verify_locations(file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"tls.client_ca {file} cannot be loaded: {_reason(error)}") from None


def _check_private(path: Path) -> None:
    """See that nobody else can read a key, by PostgreSQL's own rule for ``ssl_key_file``."""
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"tls.private_key {path} cannot be loaded: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"tls.private_key {path} is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"tls.private_key {path} must be owned by the user that phiproxy runs as, or by root")
    # A system's own group for certificates may read what root owns.
    if status.st_mode & (0o037 if status.st_uid == 0 else 0o077):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            f"tls.private_key {path} may be used by others, its mode is {mode:04o}: make it 0600 or less, or 0640 if root owns it"
        )


def _culprit(certificate: Path, private_key: Path, error: OSError) -> str:
    """Say which of the two files it is; OpenSSL does not."""
    try:
        x509.load_pem_x509_certificates(certificate.read_bytes())
    except OSError as unreadable:
        return f"tls.certificate {certificate} cannot be loaded: {unreadable.strerror}"
    except ValueError:
        return f"tls.certificate {certificate} cannot be loaded: it holds no certificate in PEM"
    try:
        serialization.load_pem_private_key(private_key.read_bytes(), None)
    except OSError as unreadable:
        return f"tls.private_key {private_key} cannot be loaded: {unreadable.strerror}"
    except TypeError:
        return f"tls.private_key {private_key} cannot be loaded: it is sealed by a passphrase"
    except ValueError:
        return f"tls.private_key {private_key} cannot be loaded: it holds no private key in PEM"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"tls.private_key {private_key} is not the key of tls.certificate {certificate}"
    return f"tls.certificate {certificate} and tls.private_key {private_key} cannot be loaded: {_reason(error)}"


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or type(error).__name__
