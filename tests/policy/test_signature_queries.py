"""What the answers tell; that they are those of a server is seen in tests/net/test_database_objects.py."""

from __future__ import annotations

import json

from phiproxy.policy.signature_queries import rows
from phiproxy.policy.signatures import Function, Operator, TypeRow


def test_nothing_of_a_database_s_own() -> None:
    assert rows("[null, null, null, null, null, null]").functions == {}


def test_what_is_of_one_name_comes_together() -> None:
    mood = [20001, "mood", "e", "E", False, 0, 0, 20002]
    functions = [["f", [25, 23], 1, 0, "f", 16], ["g", [], 0, 0, "a", 20], ["f", [], 0, 0, "p", 2278]]
    answer = [[mood], [[20001, 25, "i"]], functions, [["=", 25, 25, 16], ["=", 20001, 25, 16]], ["mood", "_mood"], ["own"]]
    found = rows(json.dumps(answer))
    assert found.types == {20001: TypeRow(20001, "mood", "e", "E", preferred=False, element=0, base=0, array=20002)}
    assert found.casts == {(20001, 25): "i"}
    assert found.functions["f"] == (Function((25, 23), 1, 0, "f", 16), Function((), 0, 0, "p", 2278))
    assert found.operators == {"=": (Operator(25, 25, 16), Operator(20001, 25, 16))}
    assert (found.names, found.collations) == (frozenset({"mood", "_mood"}), frozenset({"own"}))
