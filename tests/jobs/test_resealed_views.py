"""The order in which views' rests are sealed anew, and what puts them in place; what follows is test_computed_view_definitions'."""

from __future__ import annotations

from phiproxy.jobs.resealed_views import _inner_first, _View
from phiproxy.policy.view_rests import ViewRest, digest_of


def view(name: str, sealed: bytes, *over: bytes, options: tuple[str, ...] = ()) -> _View:
    rest = ViewRest(("SELECT c1 FROM ", ""), (), (False,), "each", (), tuple(map(digest_of, over)))
    return _View(("public", name), "clinic", options, f"SELECT '\\x{sealed.hex()}'::bytea AS phi_view_0", sealed, None, rest)


def test_views_are_behind_those_that_they_read() -> None:
    views = [view("a", b"\x0a", b"\x0b", b"\x0d"), view("b", b"\x0b", b"\x0c"), view("c", b"\x0c"), view("e", b"\x0e", b"\x0a")]
    assert [each.name[1] for each in _inner_first(views)] == ["c", "b", "a", "e"]


def test_a_view_is_replaced_with_its_options() -> None:
    barred = view("Names", b"\xf5\x01", options=("security_barrier=true", "check_option=local"))
    assert barred.with_rest(b"\xf5\x02") == (
        """CREATE OR REPLACE VIEW public."Names" WITH (security_barrier = 'true', check_option = 'local') AS """
        r"""SELECT '\xf502'::bytea AS phi_view_0"""
    )
