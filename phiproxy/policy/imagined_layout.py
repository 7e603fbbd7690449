"""What a registry would say of a policy whose columns were all sealed: for questions that are asked before there is one."""

from collections.abc import Callable

from phiproxy.policy.model import Policy
from phiproxy.policy.protection import Slot
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity
from phiproxy.types.declared import DeclaredType


def imagined_layout(policy: Policy, indexed_as: Callable[[DeclaredType], str]) -> Layout:
    """Return a layout in which every column of a policy is registered and may be in clear, and every index answers."""
    identities, columns = {}, {}
    for number, wanted in enumerate(policy.wanted_identities(indexed_as), start=1):
        slots = tuple(Slot(i, expression, 1, "active") for i, expression in enumerate(wanted.expressions))
        identities[number] = RegisteredIdentity(number, wanted.identity, wanted.scope, wanted.type_name, slots)
        columns.update(dict.fromkeys(wanted.columns, number))
    return Layout(policy.deployment, 0, identities, columns, clear=frozenset(columns))
