"""The keyring answers what it holds, for as long as it may, and says exactly what it lacks."""

from __future__ import annotations

import hmac
from collections.abc import Callable

import pytest

from phiproxy.crypto.key_derivation import expand
from phiproxy.crypto.keyring import MAX_REFUSALS, DataKey, Keyring, KeyState
from phiproxy.errors import DataKeyWant, IndexKeyWant, KeyNeeded, SealError, WriteKeyWant


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Forgotten:
    def __init__(self) -> None:
        self.ids: list[int] = []

    def forget(self, key_id: int) -> None:
        self.ids.append(key_id)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(clock: Clock) -> Keyring:
    return Keyring(clock)


def key(key_id: int, *, root: int = 1, state: KeyState = "active", fill: int = 0x41) -> DataKey:
    return DataKey(key_id, "d:mrn", "", root, bytes([fill]) * 32, state)


def wants(ring: Keyring, key_id: int) -> None:
    with pytest.raises(KeyNeeded) as caught:
        ring.data_key_until(key_id)
    assert caught.value.wants == {DataKeyWant(key_id)}


def test_an_unknown_key_is_wanted_then_answered_then_wanted_again(ring: Keyring, clock: Clock) -> None:
    wants(ring, 5)
    ring.put_data_key(key(5), 110)
    assert ring.data_key_until(5)[0].id == 5
    assert ring.has(DataKeyWant(5))
    clock.now = 110
    assert not ring.has(DataKeyWant(5))
    wants(ring, 5)


def test_a_known_missing_key_is_an_error_until_its_time(ring: Keyring, clock: Clock) -> None:
    ring.put_data_key(key(5), 200)
    ring.put_missing(5, 130)
    with pytest.raises(SealError, match="data key 5 is not known"):
        ring.data_key_until(5)
    clock.now = 130
    wants(ring, 5)


def test_a_key_put_after_it_was_missing_is_found(ring: Keyring) -> None:
    ring.put_missing(5, 130)
    ring.put_data_key(key(5), 130)
    assert ring.data_key_until(5)[0].id == 5


@pytest.mark.parametrize("state", ["retired", "destroyed"])
def test_ended_keys_never_enter_and_are_named(ring: Keyring, state: KeyState) -> None:
    with pytest.raises(ValueError, match="put_missing"):
        ring.put_data_key(key(5, state=state), 200)
    ring.put_missing(5, 200, "retired")
    with pytest.raises(SealError, match="data key 5 is retired") as caught:
        ring.data_key_until(5)
    assert caught.value.sqlstate == "XX001"


@pytest.mark.parametrize("state", ["pending", "active", "decrypt_only", "compromised"])
def test_the_other_states_open(ring: Keyring, state: KeyState) -> None:
    ring.put_data_key(key(5, state=state), 200)
    assert ring.data_key_until(5)[0].state == state


def test_a_lease_is_used_up_and_nothing_is_taken_on_failure(ring: Keyring) -> None:
    with pytest.raises(KeyNeeded) as caught:
        ring.reserve("d:mrn", 4)
    assert caught.value.wants == {WriteKeyWant("d:mrn", 4)}
    ring.put_lease("d:mrn", key(5), 10, 200)
    assert ring.reserve("d:mrn", 7).id == 5
    for _ in range(3):
        with pytest.raises(KeyNeeded):
            ring.reserve("d:mrn", 4)
    assert ring.reserve("d:mrn", 3).id == 5
    assert ring.balance("d:mrn") == (5, 0)
    with pytest.raises(KeyNeeded):
        ring.reserve("d:other", 1)


@pytest.mark.parametrize("uses", [0, -1])
def test_no_use_is_not_a_reservation(ring: Keyring, uses: int) -> None:
    ring.put_lease("d:mrn", key(5), 10, 200)
    with pytest.raises(ValueError, match="one use"):
        ring.reserve("d:mrn", uses)
    assert ring.balance("d:mrn") == (5, 10)


def test_an_expired_lease_gives_nothing_but_keeps_its_count(ring: Keyring, clock: Clock) -> None:
    ring.put_lease("d:mrn", key(5), 10, 110)
    clock.now = 110
    with pytest.raises(KeyNeeded):
        ring.reserve("d:mrn", 1)
    ring.sweep()
    assert ring.balance("d:mrn") == (5, 10)
    ring.put_lease("d:mrn", key(5), 0, 200)
    ring.reserve("d:mrn", 10)


def test_a_lease_of_another_key_replaces(ring: Keyring) -> None:
    ring.put_lease("d:mrn", key(5), 10, 200)
    ring.put_lease("d:mrn", key(6), 4, 200)
    assert ring.balance("d:mrn") == (6, 4)
    ring.put_lease("d:mrn", key(6), 4, 200)
    assert ring.reserve("d:mrn", 8).id == 6
    with pytest.raises(ValueError, match="active"):
        ring.put_lease("d:mrn", key(7, state="decrypt_only"), 4, 200)
    ring.drop_lease("d:mrn")
    assert ring.balance("d:mrn") == (0, 0)


def index_mac(ring: Keyring, number: int, slot: int) -> bytes:
    return ring.index_mac(number, slot).copy().finalize()


def test_index_keys(ring: Keyring, clock: Clock) -> None:
    with pytest.raises(KeyNeeded) as caught:
        ring.index_mac(3, 1)
    assert caught.value.wants == {IndexKeyWant(3, 1)}
    ring.put_index_key(3, 1, b"i" * 32, 9, 110)
    assert index_mac(ring, 3, 1) == hmac.digest(b"i" * 32, b"", "sha256")
    assert ring.has(IndexKeyWant(3, 1))
    clock.now = 111
    assert not ring.has(IndexKeyWant(3, 1))
    with pytest.raises(KeyNeeded):
        ring.index_mac(3, 1)


def test_index_keys_of_a_row_are_found_or_missed_together(ring: Keyring, clock: Clock) -> None:
    columns = [[IndexKeyWant(3, 0), IndexKeyWant(3, 1)], [], [IndexKeyWant(4, 0)]]
    ring.put_index_key(3, 1, b"i" * 32, 9, 110)
    with pytest.raises(KeyNeeded) as caught:
        ring.index_macs(columns)
    assert caught.value.wants == {IndexKeyWant(3, 0), IndexKeyWant(4, 0)}
    ring.put_index_key(3, 0, b"j" * 32, 9, 120)
    ring.put_index_key(4, 0, b"k" * 32, 8, 120)
    wanted = [[ring.index_mac(*want) for want in wants] for wants in columns]
    assert ring.index_macs(columns) == wanted
    assert ring.used_roots() == {8, 9}
    clock.now = 110
    with pytest.raises(KeyNeeded) as caught:
        ring.index_macs(columns)
    assert caught.value.wants == {IndexKeyWant(3, 1)}


def test_index_keys_that_are_taken_again_are_those_of_now(ring: Keyring, clock: Clock) -> None:
    columns = [[IndexKeyWant(3, 0)], [IndexKeyWant(4, 0)]]
    take = ring.index_macs_of(columns)
    with pytest.raises(KeyNeeded) as caught:
        take()
    assert caught.value.wants == {IndexKeyWant(3, 0), IndexKeyWant(4, 0)}
    ring.put_index_key(3, 0, b"j" * 32, 9, 120)
    ring.put_index_key(4, 0, b"k" * 32, 8, 110)
    assert take() == take() == ring.index_macs(columns)
    ring.extend(8, 115)
    assert ring.used_roots() == {9}
    assert take() == ring.index_macs(columns)
    assert ring.used_roots() == {8, 9}
    ring.put_index_key(4, 0, b"l" * 32, 8, 115)
    assert take() == ring.index_macs(columns)
    clock.now = 115
    with pytest.raises(KeyNeeded) as caught:
        take()
    assert caught.value.wants == {IndexKeyWant(4, 0)}


@pytest.mark.parametrize("drop", [lambda ring: ring.drop_root(9), lambda ring: ring.clear(), lambda ring: ring.sweep()])
def test_index_keys_that_are_taken_again_are_dropped_with_the_others(
    drop: Callable[[Keyring], None], ring: Keyring, clock: Clock
) -> None:
    ring.put_index_key(3, 0, b"j" * 32, 9, 120)
    take = ring.index_macs_of([[IndexKeyWant(3, 0)]])
    (taken,) = ring._taken
    assert take() == taken.macs
    clock.now = 120
    drop(ring)
    assert not taken.macs
    with pytest.raises(KeyNeeded):
        take()


def test_what_came_from_a_root_leaves_with_it(ring: Keyring) -> None:
    memo = Forgotten()
    ring.watch(memo)
    ring.put_data_key(key(5, root=1), 200)
    ring.put_data_key(key(6, root=2), 200)
    ring.put_lease("d:a", key(5, root=1), 5, 200)
    ring.put_lease("d:b", key(6, root=2), 5, 200)
    ring.put_index_key(1, 0, b"i" * 32, 1, 200)
    ring.put_index_key(2, 0, b"i" * 32, 2, 200)
    ring.drop_root(1)
    wants(ring, 5)
    assert ring.data_key_until(6)[0].id == 6
    assert not ring.has(WriteKeyWant("d:a", 1))
    assert ring.has(WriteKeyWant("d:b", 1))
    assert not ring.has(IndexKeyWant(1, 0))
    assert ring.has(IndexKeyWant(2, 0))
    assert memo.ids == [5]


def test_sweep_and_clear_leave_nothing_behind(ring: Keyring, clock: Clock) -> None:
    memo = Forgotten()
    ring.watch(memo)
    ring.put_data_key(key(5), 110)
    ring.put_data_key(key(6), 300)
    ring.put_index_key(1, 0, b"i" * 32, 1, 110)
    clock.now = 200
    ring.sweep()
    assert memo.ids == [5]
    ring.put_missing(8, 300)
    ring.put_lease("d:a", key(6), 5, 300)
    ring.clear()
    assert memo.ids == [5, 6]
    wants(ring, 8)
    assert ring.balance("d:a") == (0, 0)


def test_a_memo_that_is_gone_is_not_told(ring: Keyring) -> None:
    memo = Forgotten()
    told = memo.ids
    ring.watch(memo)
    del memo
    ring.put_data_key(key(5), 200)
    ring.clear()
    assert told == []


def test_the_least_recently_used_key_goes_first(clock: Clock) -> None:
    ring = Keyring(clock, max_data_keys=2)
    ring.put_data_key(key(1), 200)
    ring.put_data_key(key(2), 200)
    ring.data_key_until(1)
    ring.put_data_key(key(3), 200)
    wants(ring, 2)
    assert (ring.data_key_until(1)[0].id, ring.data_key_until(3)[0].id) == (1, 3)


def test_refusals_are_bounded(ring: Keyring) -> None:
    for key_id in range(1, MAX_REFUSALS + 2):
        ring.put_missing(key_id, 200)
    wants(ring, 1)
    with pytest.raises(SealError):
        ring.data_key_until(2)


def test_no_repr_holds_a_secret(ring: Keyring) -> None:
    ring.put_data_key(key(5), 200)
    ring.put_lease("d:a", key(5), 5, 200)
    ring.put_index_key(1, 0, b"A" * 32, 1, 200)
    shown = repr([ring, key(5), vars(ring), ring._index[(1, 0)]])
    assert "AAAA" not in shown


def test_what_leaves_the_ring_is_overwritten(ring: Keyring, clock: Clock) -> None:
    """The ring's own copies: the lease's is not the opening one's, so that giving up one does not blind the other."""
    key = DataKey(7, "d:mrn", "", 1, b"k" * 32, "active")
    ring.put_data_key(key, 2000.0)
    ring.put_lease("d:mrn", key, 10, 2000.0)
    opening, leased = ring.data_key_until(7)[0].secret, ring.reserve("d:mrn", 1).secret
    assert opening == leased == b"k" * 32
    ring.drop_data_key(7)
    assert (opening, leased) == (b"", b"k" * 32)
    with pytest.raises(ValueError, match="32 bytes"):
        expand(opening, b"x")
    ring.clear()
    assert leased == b""
    assert key.secret == b"k" * 32


def test_what_comes_from_a_renewed_root_lives_on(ring: Keyring, clock: Clock) -> None:
    key = DataKey(7, "d:mrn", "", 1, b"k" * 32, "active")
    ring.put_data_key(key, 1100.0)
    ring.put_lease("d:mrn", key, 10, 1100.0)
    ring.put_index_key(1, 0, b"i" * 32, 2, 1100.0)
    assert ring.used_roots() == frozenset()
    ring.data_key_until(7)
    assert ring.used_roots() == {1}
    ring.extend(1, 1500.0)
    assert ring.used_roots() == frozenset()
    clock.now = 1200.0
    assert ring.data_key_until(7)[0].id == 7
    assert ring.reserve("d:mrn", 1).id == 7
    with pytest.raises(KeyNeeded):
        ring.index_mac(1, 0)
