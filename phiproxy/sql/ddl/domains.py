"""CHECKs of domains: the same closed table of conditions as constraints over columns have, read as the server prints them."""

from __future__ import annotations

from collections.abc import Collection

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.conditions import compiled, written
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Protection
from phiproxy.policy.types import BUILTIN, builtin
from phiproxy.sql.analysis import Analysis, Context
from phiproxy.sql.ddl.conditions import value_condition
from phiproxy.sql.meaning import Meaning
from phiproxy.sql.parse import messages, parse, strings


def domain_condition(text: str, family: str, replaced: Collection[str]) -> bytes:
    """Return a domain's condition over a type of this family as the proxy evaluates it; ConfigError, with the reason, for others.

    ``replaced`` are the server's functions and operators of which somebody has made one of his own.
    """
    type_ = builtin(family) if family in BUILTIN else DeclaredType(family, 0)
    value = ProtectedColumn("", "", "value", "", 0, "", type_, None, (), "")
    context = Context(Protection(0, "", "", "", ()), Catalog(0, 0, (), replaced=frozenset(replaced)), None, "")
    encoded = f"SELECT {text}".encode()
    try:
        (statement,) = parse(encoded)
        node = statement.body["targetList"][0]["ResTarget"]["val"]
        if any(strings(m["fields"]) != ["value"] for m in messages(node) if "fields" in m):
            raise ConfigError("it names something else than VALUE")
        tree = value_condition(Analysis(encoded, context, Meaning("other", 0, len(encoded))), node, value)
        compiled(tree)
    except ConfigError:
        raise
    except (PhiproxyError, ValueError, LookupError) as error:
        why = error.message if isinstance(error, PhiproxyError) else "it is not built from what is known"
        raise ConfigError(why.replace(value.label, "VALUE")) from None
    return written(tree)
