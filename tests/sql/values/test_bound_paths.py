"""Paths whose steps are parameters."""

from __future__ import annotations

import pytest

from phiproxy.index.spelling import Call, Column, Constant, Expression
from phiproxy.sql.values.bound_paths import BoundPath, OfPath, parameters
from phiproxy.sql.values.path_steps import Bound
from phiproxy.sql.values.patterns import NotAnswered

TEMPLATE = Call("lower", (Call("->>", (Call("[]", (Column(), Bound("a", 2))), Bound("a", 1))),))
FAMILY, CITY = "lower(jsonb_extract_path_text(@,'name','family'))", "lower(jsonb_extract_path_text(@,'a','0'))"


def _path(own: str, template: Expression = TEMPLATE) -> BoundPath:
    later = frozenset({"jsonb_extract_path(@,'w')"})
    return BoundPath(own, template, frozenset({FAMILY, CITY}), "jsonb", "doc", "public.t.doc", later)


def test_the_index_of_the_bound_path_gets_the_value_and_others_nothing() -> None:
    steps = {2: "name", 1: "family"}
    assert OfPath().tag(_path(FAMILY).subject(steps, b"x"), lambda value: b"tag of " + value) == b"tag of x"
    assert OfPath().tag(_path(CITY).subject(steps, b"x"), bytes) is None


def test_a_step_is_what_its_operator_makes_of_it() -> None:
    """``doc[$2] ->> $1`` with 0 as $1 is the member of an object, which no index here is about."""
    with pytest.raises(NotAnswered) as refused:
        _path(CITY).subject({2: "a", 1: "0"}, b"x")
    assert "json" in (refused.value.hint or "")


def test_a_path_without_an_index_is_told() -> None:
    with pytest.raises(NotAnswered) as refused:
        _path(FAMILY).subject({2: "a", 1: "b"}, b"x")
    assert (refused.value.hint or "").startswith("Add `lower(doc#>>'{a,b}')` to the indexes of public.t.doc in the policy")


def test_an_index_that_answers_nothing_yet_is_told() -> None:
    with pytest.raises(NotAnswered) as refused:
        _path(FAMILY, Call("->", (Column(), Bound("a", 1)))).subject({1: "w"}, b"x")
    assert "phiproxy reindex" in (refused.value.hint or "")


def test_parameters_in_their_order() -> None:
    assert parameters(TEMPLATE) == (2, 1)
    assert parameters(Call("->", (Column(), Constant("a")))) == ()
