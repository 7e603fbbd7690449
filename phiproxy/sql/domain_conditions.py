"""CHECK constraints of domains, as the server prints them, to conditions that the proxy evaluates."""

from collections.abc import Collection

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.check_evaluation import compiled, written
from phiproxy.policy.column_types import BUILTIN, builtin
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Protection
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.rules import RULES
from phiproxy.sql.statements.ddl.check_conditions import value_condition
from phiproxy.sql.text.parse import messages, parse, strings


def domain_condition(text: str, family: str, replaced: Collection[str]) -> bytes:
    """Return the condition of a domain over a type of this family; ConfigError, with the reason, for one that is not in the table.

    ``replaced`` are PostgreSQL's functions and operators beside which the database has others of the same name.
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
        tree = value_condition(Analysis(encoded, context, statement, RULES), node, value)
        compiled(tree)
    except ConfigError:
        raise
    except (PhiproxyError, ValueError, LookupError) as error:
        why = error.message if isinstance(error, PhiproxyError) else "it is not built from what is known"
        raise ConfigError(why.replace(value.label, "VALUE")) from None
    return written(tree)
