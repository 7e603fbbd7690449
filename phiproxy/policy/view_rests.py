"""Views over expressions of protected columns: what of such a view the server has, and what is sealed inside of it.

The server's view is the source: its columns are those of the client's, and behind them the *inputs* that the rest needs, which
clients do not see. A column that the server cannot compute fails there when it is read. The rest, which computes it, is sealed and
stands in the view as a constant: so names, privileges, owners, dependencies and dumps are the server's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, NamedTuple

from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.types.declared import DeclaredType

_PREFIX: Final = "phi_view_"
SEALED: Final = "phi_view_0"
"""The column that holds the sealed rest."""
SEALED_PATH: Final = "\0view"
"""What is bound into a sealed rest as the path of a field is: no path of a field is like it, so neither is taken for the other."""
_VERSION, _TOLD = 1, 2
_DIGEST_SIZE: Final = 32
_STORED = re.compile(rf"'\\x(f5500101(?:[0-9a-f]{{2}})+)'::bytea AS {SEALED}\b")


def input_name(number: int) -> str:
    """Return the name of an input, from 1."""
    return f"{_PREFIX}{number}"


def is_inner(name: str) -> bool:
    """Tell whether a column of a view over expressions is one that clients do not know of."""
    return name.startswith(_PREFIX)


def is_computed(relation: Relation) -> bool:
    """Tell whether a relation is a view over expressions of protected columns."""
    return relation.kind == "v" and relation.column(SEALED) is not None


def client_columns(relation: Relation) -> tuple[CatalogColumn, ...]:
    """Return the columns of a relation but for those that only the proxy reads."""
    return tuple(c for c in relation.columns if not is_inner(c.name)) if is_computed(relation) else relation.columns


def sealed_in(stored: str) -> bytes | None:
    """Return the sealed rest that stands in the stored query of a view, as pg_get_viewdef prints it."""
    match = _STORED.search(stored)
    return None if match is None else bytes.fromhex(match[1])


def digest_of(sealed: bytes) -> bytes:
    """Return what the rests of views over a view name its sealed rest by (32 bytes): all of it would double with each level."""
    return sha256(sealed).digest()


Rows = Literal["each", "some", "other"]
"""Which rows of the source a view shows: each, those that the rest chooses, or others, made of several or in another number."""


@dataclass(frozen=True, slots=True)
class Input:
    """A column of the source, c1, c2 … in the rest: a column of the client's by its ``place`` from 0, else an inner one by name.

    ``identity`` is that of the protected column whose values it has, empty where they are in clear; with the type of the values.
    """

    place: int | str
    identity: str
    type: str
    typmod: int

    def fits(self, identity: str, declared: DeclaredType, typmod: int) -> bool:
        """Tell whether a column of the server's view is what the rest was made for."""
        return (self.identity, self.type, self.typmod) == (identity, type_key(declared), typmod)


def type_key(declared: DeclaredType) -> str:
    """Return what a type is told by: no OID, which is another one in a database that was restored."""
    return f"{declared.schema}.{declared.name}" if declared.schema else declared.name


class Told(NamedTuple):
    """The type of a column of the client's, by its ``place`` from 0, as PostgreSQL names one that it comes with."""

    place: int
    type: str
    typmod: int


@dataclass(frozen=True, slots=True)
class ViewRest:
    """The rest of a view: between each two of ``parts`` stands its source, whose columns are ``inputs``.

    ``shown``: which columns of the client's the server has too. ``rows``: how these are rows of the source.
    ``orders`` as of ``sql.result.Split``. ``over`` are the digests of the sealed rests of the views that the source
    reads. ``told`` are columns that the view showed as they are before it was replaced, and that are computed now: since a column
    of a view keeps its type, the server does not tell that of these.
    """

    parts: tuple[str, ...]
    inputs: tuple[Input, ...]
    shown: tuple[bool, ...]
    rows: Rows
    orders: tuple[str, ...] = ()
    over: tuple[bytes, ...] = ()
    told: tuple[Told, ...] = ()

    def written(self) -> bytes:
        """Return it as it is sealed."""
        said = {
            "version": _TOLD if self.told else _VERSION,
            "rest": self.parts,
            "inputs": [[one.place, one.identity, one.type, one.typmod] for one in self.inputs],
            "shown": self.shown,
            "rows": self.rows,
            "orders": self.orders,
            "over": [digest.hex() for digest in self.over],
            **({"told": self.told} if self.told else {}),
        }
        return json.dumps(said, ensure_ascii=False).encode("utf-8")

    def around(self, item: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return the rest as a text over an item of FROM that has the columns c1, c2 …; the item's own parts have gaps too."""
        pieces = [self.parts[0].encode()]
        for part in self.parts[1:]:
            pieces[-1] += item[0]
            pieces += item[1:]
            pieces[-1] += part.encode()
        return tuple(pieces)


def read_rest(opened: bytes) -> ViewRest:
    """Return a rest from what was sealed; ValueError, KeyError, TypeError where that is something else."""
    said = json.loads(opened)
    if said["version"] not in (_VERSION, _TOLD):
        raise ValueError("a rest of another version")
    return ViewRest(
        tuple(said["rest"]),
        tuple(Input(*one) for one in said["inputs"]),
        tuple(said["shown"]),
        said["rows"],
        tuple(said["orders"]),
        tuple(_digest(bytes.fromhex(one)) for one in said["over"]),
        tuple(Told(*one) for one in said["told"]) if said["version"] == _TOLD else (),
    )


def _digest(named: bytes) -> bytes:
    """Return the digest of a sealed rest that was named so, or, as in rests that were sealed before, by all of its bytes."""
    return named if len(named) == _DIGEST_SIZE else digest_of(named)
