"""One property for every type: what the codec makes of a value is what the server makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from phiproxy.errors import ValueRefused
from phiproxy.types.codec import Codec
from phiproxy.types.styles import Styles
from tests.types.server import Known, Oracle

EXPLORE = float(os.environ.get("PHIPROXY_EXPLORE", "0"))
"""The values are the same in every run; set, it looks at others, so many batches for each type."""


def batches(examples: int) -> settings:
    """Return the settings of a test over batches of values."""
    return settings(
        max_examples=int(EXPLORE) or examples,
        derandomize=not EXPLORE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def lists(values: st.SearchStrategy[bytes], size: int = 40) -> st.SearchStrategy[list[bytes]]:
    """Return batches of values, mostly full ones."""
    return st.lists(values, min_size=1, max_size=size)


def outcome(function: Callable[[], bytes]) -> bytes | ValueRefused:
    try:
        return function()
    except ValueRefused as error:
        return error


def agree_on_reading(codec: Codec, known: Known, text: bytes, styles: Styles, alike: frozenset[str]) -> bytes | None:
    """Check that a text is read as the server reads it, or refused; return the canonical form.

    Of two errors in one text, which one is found first may differ, when both are in ``alike``.
    """
    found = outcome(lambda: codec.from_text(text, styles))
    where = (text, styles, known)
    if isinstance(found, bytes):
        assert found == known.canonical, where
        assert known.error is None, where
        return found
    assert text not in found.message.encode() or len(text) < 3, where
    if found.sqlstate == "0A000":
        assert found.hint, where
        return None
    assert known.error == found.sqlstate or {known.error, found.sqlstate} <= alike, (found, where)
    # The server puts the value, and since 16 more places, into its messages; the words before that are the same.
    return None


def agree(
    oracle: Oracle,
    type_name: str,
    codec: Codec,
    texts: Sequence[bytes],
    styles: Styles = Styles.CANONICAL,
    *,
    equality: bool = True,
    alike: frozenset[str] = frozenset(),
) -> int:
    """Check text in, binary in, text out, binary out and equality; return how many of the texts were read."""
    server = oracle.read(type_name, texts, styles)
    forms: dict[int, bytes] = {}
    for n, (text, known) in enumerate(zip(texts, server, strict=True)):
        agree_on_reading(codec, known, text, styles, alike)
        if known.error is not None:
            continue
        where = (text, styles, known)
        assert codec.from_binary(known.binary) == known.canonical, where
        if known.canonical != b"NaN":  # a float has several, which text does not tell apart
            assert codec.to_binary(known.canonical) == known.binary, where
        assert codec.to_text(known.canonical, styles) == known.shown, where
        assert codec.from_text(known.canonical, Styles.CANONICAL) == known.canonical, where
        forms[n] = codec.form(known.canonical)
    if equality:
        equal = {(a, b) for a in forms for b in forms if a < b and forms[a] == forms[b]}
        assert equal == oracle.equal_pairs(type_name), (texts, server)
    return len(forms)


def agree_on_assignment(oracle: Oracle, type_name: str, limited: str, typmod: int, codec: Codec, texts: Sequence[bytes]) -> None:
    """Check a typmod: the value that a column of the limited type stores, or the refusal."""
    free = oracle.read(type_name, texts)
    server = oracle.assign(type_name, limited, texts)
    for text, before, known in zip(texts, free, server, strict=True):
        if before.error is not None:
            continue
        found = outcome(lambda given=before: codec.assign(given.canonical, typmod))  # type: ignore[misc]
        if isinstance(found, ValueRefused):
            assert known.error == found.sqlstate, (text, found.message, known)
            assert found.message == known.message, (text, known)
        else:
            assert known.error is None, (text, known)
            assert found == known.canonical, (text, known)


def refuses_alike(oracle: Oracle, type_name: str, codec: Codec, fields: Sequence[bytes]) -> None:
    """Check binary forms, good and bad, one by one."""
    for field in fields:
        found = outcome(lambda given=field: codec.from_binary(given))  # type: ignore[misc]
        said = oracle.receive(type_name, field)
        assert (found if isinstance(found, bytes) else found.sqlstate) == said, (field, found, said)
