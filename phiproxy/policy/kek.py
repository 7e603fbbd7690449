"""KEK URIs as the configuration names them: which schemes there are, where secrets may not stand, which parts are paths.

What a scheme's URI means is its provider's business (``keys``); here only what can be said without its SDK.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

SCHEMES: Final = ("local", "awskms", "vault", "pkcs11", "rsa")
_PATH_SCHEMES: Final = frozenset({"local", "rsa"})
_SECRET_OPTIONS: Final = frozenset({"passphrase", "pin-value", "token", "role_id", "secret_id"})
_PATH_OPTIONS: Final = frozenset({"private", "ca_file", "jwt", "module-path"})


def complaint(uri: str) -> str | None:
    """Return what is wrong with a KEK URI, never repeating a value of its options; None when nothing is."""
    scheme, colon, rest = uri.partition(":")
    if not colon or not rest:
        return "a KEK is named by a URI, for example local:PATH"
    if scheme not in SCHEMES:
        return f"unknown KEK scheme {scheme}:; this version knows {', '.join(SCHEMES)}"
    name, mark, query = rest.partition("?")
    if not name:
        return f"{scheme}: needs something to stand before the options"
    options = _options(query) if mark else []
    if mark and any(not option or not value for option, value in options):
        return f"{scheme}: options are written ?name=value&name=value"
    for option, value in options:
        if option in _SECRET_OPTIONS and not value.startswith(("env:", "file:")):
            return f"{scheme}: {option} is env:NAME or file:/path; a secret is never written here"
    if scheme == "local" and any(option != "passphrase" for option, _ in options):
        return "local: takes only ?passphrase=env:NAME or ?passphrase=file:/path"
    return None


def absolute(uri: str, directory: Path) -> str:
    """Return the URI with its paths made absolute from ``directory``."""
    scheme, _, rest = uri.partition(":")
    name, mark, query = rest.partition("?")
    if scheme in _PATH_SCHEMES:
        name = str(directory / name)
    parts = []
    for option, value in _options(query) if mark else []:
        if option in _PATH_OPTIONS:
            parts.append(f"{option}={directory / value}")
        elif option in _SECRET_OPTIONS and value.startswith("file:"):
            parts.append(f"{option}=file:{directory / value.removeprefix('file:')}")
        else:
            parts.append(f"{option}={value}")
    return f"{scheme}:{name}{mark}{'&'.join(parts)}"


def in_file(uri: str) -> bool:
    """Say whether a KEK is read from files once, when it is opened: whether they are still as they must be shows then only."""
    return uri.partition(":")[0] in _PATH_SCHEMES


def _options(query: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (part.partition("=") for part in query.split("&"))]
