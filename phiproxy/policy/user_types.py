"""Types of the database's own as its catalogue has them (enums, domains, citext), and what a policy's names mean among them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from phiproxy.errors import ConfigError
from phiproxy.policy.check_evaluation import condition
from phiproxy.policy.column_types import array_of, by_oid, named_type, of_typmod
from phiproxy.policy.identifiers import quote_ident, split_identifiers
from phiproxy.policy.protection import DeclaredType
from phiproxy.types.declared import DomainCheck

CITEXT = "citext"


class NoSuchType(ConfigError):
    """There is no type of this name: perhaps not yet."""


@dataclass(frozen=True, slots=True)
class TypeCheck:
    """A CHECK of a domain: its ``condition`` as ``conditions.written`` has it, or why it is not understood."""

    name: str
    condition: bytes = b""
    why: str = ""


@dataclass(frozen=True, slots=True)
class OwnType:
    """One row of pg_type: ``kind`` is typtype, or ``citext``. A domain has a base, perhaps with a typmod, and conditions.

    ``obstacle``: what else it has that a protected column cannot have, in words.
    """

    oid: int
    array_oid: int
    size: int
    schema: str
    name: str
    kind: str
    labels: tuple[str, ...] = ()
    base_oid: int = 0
    base_typmod: int = -1
    not_null: bool = False
    obstacle: str = ""
    checks: tuple[TypeCheck, ...] = ()

    @property
    def qualified(self) -> str:
        """``schema.type``, quoted where that is needed: the name of the declared type."""
        return f"{quote_ident(self.schema)}.{quote_ident(self.name)}"


Types = Sequence[OwnType]


def resolved(declared: DeclaredType, types: Types) -> DeclaredType:
    """Return what a type of a policy is now, one of the server's own as it is.

    ConfigError, for the operator, where there is none of that name, several, or one that cannot be protected.
    """
    if declared.element is not None:
        element = resolved(declared.element, types)
        if element.not_null:
            raise ConfigError(f"arrays of {element.name}, a domain without NULL, cannot be protected")
        return declared if element is declared.element else array_of(element)
    if by_oid(declared.oid) is not None:
        return declared
    return declared_as(named(split_identifiers(declared.name), types), types)


def unknown(declared: DeclaredType) -> DeclaredType:
    """Return a type of which only the name is known."""
    return named_type(declared.name)


def indexed_as(declared: DeclaredType, types: Types) -> str:
    """Return the name of what index expressions over a type are over; its own where it is not there yet."""
    try:
        return resolved(declared, types).indexed_as
    except ConfigError:
        return declared.name


def same_name(one: str, other: str) -> bool:
    """Tell whether two names of types mean the same, one of which may leave the schema out."""
    if one == other or by_oid(named_type(one).oid) is not None or by_oid(named_type(other).oid) is not None:
        return one == other
    mine, others = (split_identifiers(name.removesuffix("[]")) for name in (one, other))
    shorter = min(len(mine), len(others))
    return mine[-shorter:] == others[-shorter:] and one.endswith("[]") == other.endswith("[]")


def named(parts: Sequence[str], types: Types) -> OwnType:
    """Return the type of a name, with or without its schema; ConfigError where there is none, or more than one."""
    candidates = [t for t in types if t.name == parts[-1] and (len(parts) == 1 or t.schema == parts[0])]
    shown = ".".join(map(quote_ident, parts))
    if not candidates:
        raise NoSuchType(f"there is no type {shown}")
    if len(candidates) > 1:
        raise ConfigError(f"type {shown} is in several schemas: write {' or '.join(t.qualified for t in candidates)}")
    return candidates[0]


def declared_as(own: OwnType, types: Types) -> DeclaredType:
    """Return a type of the catalogue as a column is declared with it; ConfigError where it cannot be protected."""
    if own.obstacle:
        raise ConfigError(f"type {own.qualified} {own.obstacle}, and cannot be protected")
    plain = DeclaredType(own.qualified, own.oid, size=own.size, array_oid=own.array_oid, schema=own.schema)
    if own.kind == CITEXT:
        return plain
    if own.kind == "e" and own.labels:
        return replace(plain, labels=own.labels)
    if own.kind == "d":
        return _domain(plain, own, types)
    raise ConfigError(f"type {own.qualified} is no enum with labels, no domain and not citext: it cannot be protected")


def _domain(plain: DeclaredType, own: OwnType, types: Types) -> DeclaredType:
    """Return a domain over what the innermost one is over, with the conditions of all, the innermost first."""
    refused = next((check for check in own.checks if check.why), None)
    if refused is not None:
        raise ConfigError(f"domain {own.qualified} has constraint {refused.name}, which is not understood: {refused.why}")
    checks = tuple(_check(own, check) for check in own.checks)
    inner = next((t for t in types if t.oid == own.base_oid), None)
    if inner is None:
        base = of_typmod(own.base_oid, own.base_typmod)
        if base is None or base.element is not None:
            raise ConfigError(f"domain {own.qualified} is over a type that cannot be protected")
        return replace(plain, base=base, checks=checks, not_null=own.not_null)
    over = declared_as(inner, types)
    if over.base is None:
        return replace(plain, base=over, checks=checks, not_null=own.not_null)
    return replace(plain, base=over.base, checks=(*over.checks, *checks), not_null=own.not_null or over.not_null)


def _check(own: OwnType, check: TypeCheck) -> DomainCheck:
    holds = condition(check.condition)
    if holds(None) is False:
        raise ConfigError(f"domain {own.qualified} has constraint {check.name}, which is false of NULL: write NOT NULL instead")
    return DomainCheck(check.name, check.condition, holds)
