"""The database's own types: what a policy's name means, and which can be protected."""

import pytest

from phiproxy.errors import ConfigError
from phiproxy.policy.check_evaluation import written
from phiproxy.policy.column_types import builtin, named_type
from phiproxy.policy.user_types import NoSuchType, OwnType, TypeCheck, indexed_as, resolved, same_name, unknown

POSITIVE = written([">", ["number", ["value"]], ["constant", 0]])
NOT_FIVE = written(["<>", ["number", ["value"]], ["constant", 5]])
TYPES = (
    OwnType(20001, 20002, 4, "public", "mood", "e", ("sad", "ok")),
    OwnType(20003, 20004, 4, "lab", "mood", "e", ("sad",)),
    OwnType(20005, 20006, -1, "ext", "citext", "citext"),
    OwnType(20007, 20008, 4, "public", "grade", "d", base_oid=23, checks=(TypeCheck("positive", POSITIVE),)),
    OwnType(20009, 20010, 4, "public", "best", "d", base_oid=20007, not_null=True, checks=(TypeCheck("best_check", NOT_FIVE),)),
    OwnType(20011, 20012, -1, "public", "zip", "d", base_oid=1043, base_typmod=9),
    OwnType(20013, 20014, -1, "public", "email", "d", base_oid=20005),
    OwnType(20015, 20016, -1, "public", "odd", "d", base_oid=23, checks=(TypeCheck("odd_check", why="it calls f"),)),
    OwnType(20017, 20018, -1, "public", "filled", "d", base_oid=25, obstacle="has a DEFAULT"),
    OwnType(20019, 20020, -1, "public", "points", "d", base_oid=600),
    OwnType(20021, 20022, -1, "public", "list", "d", base_oid=1007),
    OwnType(20023, 20024, -1, "public", "hollow", "e"),
    OwnType(20025, 20026, -1, "public", "pair", "c"),
    OwnType(20027, 20028, -1, "public", "there", "d", base_oid=25, checks=(TypeCheck("c", written(["not", ["null", ["value"]]])),)),
)


def test_an_enum() -> None:
    found = resolved(named_type("public.mood"), TYPES)
    assert (found.name, found.oid, found.family, found.labels, found.known) == ("public.mood", 20001, "enum", ("sad", "ok"), True)
    array = resolved(named_type("lab.mood[]"), TYPES)
    assert array.element is not None
    assert (array.name, array.oid, array.element.labels) == ("lab.mood[]", 20004, ("sad",))


def test_domains_are_over_what_the_innermost_is_over() -> None:
    best = resolved(named_type("best"), TYPES)
    assert best.base == builtin("int4")
    assert [check.name for check in best.checks] == ["positive", "best_check"]
    assert [check.holds("5") for check in best.checks] == [True, False]
    assert best.not_null
    zipped = resolved(named_type("zip"), TYPES)
    assert (zipped.base, zipped.indexed_as) == (named_type("varchar(5)"), "varchar(5)")
    assert resolved(named_type("email"), TYPES).ignores_case
    assert indexed_as(named_type("email"), TYPES) == "ext.citext"
    assert indexed_as(named_type("later"), TYPES) == "later"


def test_the_servers_own_are_as_they_are() -> None:
    assert resolved(named_type("numeric(5,2)"), ()) == named_type("numeric(5,2)")
    assert resolved(named_type("date[]"), ()) == named_type("date[]")
    assert unknown(resolved(named_type("zip"), TYPES)).known is False


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mood", "is in several schemas: write public.mood or lab.mood"),
        ("odd", "has constraint odd_check, which is not understood: it calls f"),
        ("filled", "has a DEFAULT"),
        ("points", "over a type that cannot be protected"),
        ("list", "over a type that cannot be protected"),
        ("hollow", "no enum with labels"),
        ("pair", "no enum with labels"),
        ("there", "false of NULL: write NOT NULL"),
        ("best[]", "arrays of public.best, a domain without NULL"),
    ],
)
def test_what_cannot_be_protected(name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        resolved(named_type(name), TYPES)
    assert not isinstance(caught.value, NoSuchType)


def test_what_is_not_there() -> None:
    for name in ("public.nothing", "nothing", "lab.grade", "nothing[]"):
        with pytest.raises(NoSuchType, match="there is no type"):
            resolved(named_type(name), TYPES)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("mood", "public.mood", True),
        ("public.mood[]", "mood[]", True),
        ("lab.mood", "public.mood", False),
        ("mood", "mood[]", False),
        ("text", "varchar", False),
        ("varchar(5)", "varchar(5)", True),
        ("date", "public.date", False),
    ],
)
def test_names_that_mean_the_same(one: str, other: str, same: bool) -> None:
    assert same_name(one, other) is same
