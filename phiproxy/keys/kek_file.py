"""The local KEK file on disk (spec/stored-format 3.4): strict to read, atomic to create; knows no passphrase and no wrapping.

No complaint repeats any of the content.
"""

import fcntl
import json
import os
import stat
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from phiproxy.crypto.envelope import GCM_TAG_LENGTH, NONCE_LENGTH
from phiproxy.crypto.key_derivation import KEY_LENGTH
from phiproxy.errors import ProviderMisconfigured

FORMAT: Final = 1

# A thousand keys fit; anything larger is not a key file, and must not be read into memory to find out.
MAX_BYTES: Final = 1 << 20

# What a file may ask of this machine (RFC 9106 recommends t=1, m=2 GiB at most).
MAX_T, MAX_M_KIB, MAX_P = 64, 2 << 20, 64


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """Argon2id parameters (RFC 9106, section 3.1): passes, memory in KiB, lanes."""

    salt: bytes = field(repr=False)
    t: int = 3
    m: int = 65536
    p: int = 4


@dataclass(frozen=True, slots=True)
class PlainKek:
    """A KEK in clear, 32 bytes."""

    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedKek:
    """A KEK sealed by a passphrase: nonce, ciphertext and tag, 60 bytes."""

    sealed: bytes = field(repr=False)
    cost: Argon2Cost


@dataclass(frozen=True, slots=True)
class KekFile:
    """The file's content: the current version is one of ``keys``."""

    current: int
    keys: Mapping[int, PlainKek | SealedKek]


def read(path: Path) -> KekFile:
    """Read and check the file; ProviderMisconfigured with one line that names it when anything about it is not right."""
    content = _parse_json(path, _read_private(path))
    if not isinstance(content, dict) or set(content) != _TOP or repr(content["phiproxy_kek"]) != str(FORMAT):
        raise _broken(path, "it is not a phiproxy_kek file of format 1")
    entries, current = content["keys"], content["current"]
    if not isinstance(entries, dict) or not _is_count(current) or str(current) not in entries:
        raise _broken(path, '"current" does not name one of its "keys"')
    return KekFile(current, {_version(path, name): _entry(path, entry) for name, entry in entries.items()})


def create(path: Path, entry: bytes | SealedKek) -> bool:
    """Write a new file with one key, version 1, so that it is there whole or not at all; False when a file is there.

    Raises ProviderMisconfigured when the directory cannot be made or written to.
    """
    first = PlainKek(entry) if isinstance(entry, bytes) else entry
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(temporary, _text(KekFile(1, {1: first})))
        try:
            # link, unlike rename, never replaces what somebody else has just put there.
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _sync_directory(path.parent)
    except OSError as error:
        raise ProviderMisconfigured(f"{path} cannot be created: {error.strerror}") from None
    return True


def add(path: Path, seen: KekFile, entry: bytes | SealedKek) -> int | None:
    """Add a key to the file, current from now on, and return its version; None when the file is not as it was seen.

    Replaced as a whole, so that whoever reads it meets the old file or the new one. Raises ProviderMisconfigured when it cannot be
    read or written.
    """
    version = max(seen.keys) + 1
    keys = {**seen.keys, version: PlainKek(entry) if isinstance(entry, bytes) else entry}
    try:
        with open(path, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            if read(path) != seen:
                return None
            replace(path, _text(KekFile(version, keys)))
    except OSError as error:
        raise ProviderMisconfigured(f"{path} cannot be changed: {error.strerror}") from None
    return version


def _text(content: KekFile) -> bytes:
    keys = {str(version): _shown(entry) for version, entry in sorted(content.keys.items())}
    return (json.dumps({"phiproxy_kek": FORMAT, "current": content.current, "keys": keys}) + "\n").encode()


def _shown(entry: PlainKek | SealedKek) -> dict[str, Any]:
    if isinstance(entry, PlainKek):
        return {"key": _b64(entry.key)}
    cost = entry.cost
    return {"sealed": _b64(entry.sealed), "argon2id": {"salt": _b64(cost.salt), "t": cost.t, "m": cost.m, "p": cost.p}}


_TOP = {"phiproxy_kek", "current", "keys"}


def _read_private(path: Path) -> bytes:
    """Read a regular file that only its owner, the effective user, can read or write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ProviderMisconfigured(f"{path} cannot be read: {error.strerror}") from None
    try:
        # The open file is judged, not the name: nothing can be exchanged in between.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _broken(path, "it is not a regular file")
        if status.st_uid != os.geteuid():
            raise _broken(path, "its owner is not the user that phiproxy runs as")
        mode = stat.S_IMODE(status.st_mode)
        if mode not in {0o600, 0o400}:
            raise _broken(path, f"its mode is {mode:04o}, and must be 0600")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise _broken(path, "it is too large")
    return data


def _parse_json(path: Path, data: bytes) -> object:
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        pass
    # Raised outside the handler: a JSONDecodeError holds the document, and must not hang on to this one as its context.
    raise _broken(path, "it is not valid JSON (truncated?)")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name stands twice")
    return document


def _version(path: Path, name: str) -> int:
    if not (name.isascii() and name.isdigit() and name[0] != "0" and len(name) <= 9):
        raise _broken(path, "a key version is not a number")
    return int(name)


def _entry(path: Path, entry: object) -> PlainKek | SealedKek:
    if isinstance(entry, dict) and set(entry) == {"key"}:
        return PlainKek(_bytes(path, entry["key"], KEY_LENGTH))
    if isinstance(entry, dict) and set(entry) == {"sealed", "argon2id"}:
        cost = entry["argon2id"]
        if not isinstance(cost, dict) or set(cost) != {"salt", "t", "m", "p"}:
            raise _broken(path, "the argon2id parameters of a key are not salt, t, m and p")
        t, m, p = cost["t"], cost["m"], cost["p"]
        counts = _is_count(t) and _is_count(m) and _is_count(p)
        if not (counts and t <= MAX_T and p <= MAX_P and 8 * p <= m <= MAX_M_KIB):
            raise _broken(path, "the argon2id cost of a key is out of range")
        sealed = _bytes(path, entry["sealed"], NONCE_LENGTH + KEY_LENGTH + GCM_TAG_LENGTH)
        return SealedKek(sealed, Argon2Cost(_bytes(path, cost["salt"], 16), t, m, p))
    raise _broken(path, 'a key is neither "key" nor "sealed" with "argon2id"')


def _bytes(path: Path, text: object, length: int) -> bytes:
    data = None
    if isinstance(text, str):
        try:
            data = b64decode(text, validate=True)
        except (Base64Error, ValueError):
            data = None
    if data is None or len(data) != length:
        raise _broken(path, f"a key, sealed key or salt is not base64 of {length} bytes")
    return data


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _b64(data: bytes) -> str:
    return b64encode(data).decode()


def _broken(path: Path, why: str) -> ProviderMisconfigured:
    return ProviderMisconfigured(f"{path} cannot be used: {why}")


def replace(path: Path, data: bytes) -> None:
    """Put a file that only its owner can read in the place of another one, as a whole; OSError."""
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        _write_new(temporary, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
