"""A conversation in which anything may happen at any moment, and the client still hears what a server alone would have said.

The client pipelines without waiting, bytes are cut anywhere, keys are missing, come or are denied, the catalogue changes, the
server says things that nobody asked for. What a denial refuses is an error at that message for a direct server too; a denied row is
the error of its SELECT, or the end of the conversation.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import ProviderUnavailable
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.session.needs import Need, NeedKeys
from phiproxy.session.phases import Peer
from tests.session.frames import SYNC, Frame, error_fields, notice, notification, parameter_status, query, show_client, split
from tests.session.model import Server
from tests.session.network import ALL, Network, same
from tests.session.screenplay import PLANNER, SECRET, FakeDatabase, fill
from tests.session.scripts import PATIENT, a_whole_statement, messages
from tests.session.statements import SSN_FIELD, STATEMENTS

UNASKED = (b"N", b"A", b"S")
DENIED = ProviderUnavailable("the key provider does not answer")


legs = st.sampled_from([0, 0, 1, 2])
sizes = st.one_of(st.integers(1, 60), st.just(ALL))


protected = a_whole_statement(
    st.sampled_from(
        [text for text, statement in STATEMENTS.items() if statement.physical_parameters or SSN_FIELD in statement.columns]
    )
)


class Conversation(RuleBasedStateMachine):
    """One client, from its login to its last Sync."""

    @initialize()
    def begin(self) -> None:
        self.database = FakeDatabase()
        self.network = Network(self.database)
        self.script: list[Frame] = []
        self.unasked: list[bytes] = []
        self.denied: dict[int, str] = {}
        self.broken_at = -1
        self.rings: list[Keyring] = []
        self.new_keys()

    # -- the client ------------------------------------------------------------------------------------------------------------

    @rule(said=st.lists(messages, min_size=1, max_size=4))
    def say(self, said: list[bytes]) -> None:
        self._say(b"".join(said))

    def _say(self, data: bytes) -> None:
        self.script += split(data)
        self.network.say(data)

    @rule(said=protected)
    def say_something_protected(self, said: bytes) -> None:
        self._say(said + SYNC)

    @rule(denies=st.booleans())
    def hear(self, denies: bool) -> None:
        """Let everything arrive that has been said, but for what another need keeps."""
        self.move([(0, ALL, False), (1, ALL, False), (2, ALL, False), (2, 0, denies)])

    @precondition(lambda self: self.broken_at < 0)
    @rule(text=st.sampled_from(sorted(PATIENT)))
    def wait_and_use_the_search_path(self, text: str) -> None:
        self._say(SYNC)
        self._settle()
        self._say(query(text))
        self._settle()

    # -- the network -----------------------------------------------------------------------------------------------------------

    @rule(moves=st.lists(st.tuples(legs, sizes, st.booleans()), min_size=1, max_size=8))
    def move(self, moves: list[tuple[int, int, bool]]) -> None:
        for leg, size, denies in moves:
            if self.network.need is not None:
                (self._deny if denies and self.broken_at < 0 else self._meet)(self.network.need)
            self.network.move(leg, size)

    # -- the server ------------------------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from([notice, notification, parameter_status]), place=st.integers(0, 8))
    def say_what_nobody_asked_for(self, kind: Any, place: int) -> None:
        number = f"unasked {len(self.unasked)}"
        said = kind(number) if kind is notice else kind("TimeZone", number)
        under_way = self.network.from_server
        # Not before the first, which may be under way in part, nor before what was said earlier.
        earliest = max([1, *(i + 1 for i, frame in enumerate(under_way) if frame in self.unasked)])
        under_way.insert(max(earliest, min(place, len(under_way))), said)
        self.unasked.append(said)

    # -- keys and catalogue ----------------------------------------------------------------------------------------------------

    @rule()
    def new_keys(self) -> None:
        """The cache of keys is empty again, and the plans are another generation's."""
        ring = Keyring(lambda: 0.0)
        self.rings.append(ring)
        planner = copy(PLANNER)
        planner.ciphers = Ciphers(ring)
        self.database.planner = planner
        self.database.generation += 1

    def _meet(self, need: Need) -> None:
        """Bring what is wanted; results that are under way still want keys of an earlier generation."""
        if isinstance(need, NeedKeys):
            for ring in self.rings:
                fill(ring, need.wants)
        self.network.resume()

    def _deny(self, need: Need) -> None:
        if self.network.session.waiting is Peer.CLIENT:
            self.denied[self._taken()] = DENIED.sqlstate
        else:
            assert isinstance(need, NeedKeys)
            self.broken_at = len(self._heard())
        self.network.resume(DENIED)

    def _taken(self) -> int:
        """Return how many messages of the client's the session has taken."""
        taken = self.network.said - len(self.network.from_client) - self.network.session.client_frames.pending
        for number, frame in enumerate(self.script):
            if taken == 0:
                return number
            taken -= len(frame)
        raise AssertionError("the session waits for a message that was not said")

    # -- what must hold --------------------------------------------------------------------------------------------------------

    def _heard(self) -> list[Frame]:
        return [f for f in split(self.network.received) if f[:1] not in UNASKED]

    def _settle(self) -> None:
        self.network.settle(self._meet)

    def _directly(self) -> list[Frame]:
        server = Server(physical=False)
        server.breaks_at = self.broken_at
        return [f for i, frame in enumerate(self.script) for f in split(server.receive(frame, self.denied.get(i, "")))]

    @invariant()
    def no_secret_leaves(self) -> None:
        assert not hasattr(self, "network") or SECRET not in self.network.captured

    def teardown(self) -> None:
        if not hasattr(self, "network"):
            return
        self._say(SYNC)
        self._settle()
        said = "\n".join(f"{i} {show_client(f)}" for i, f in enumerate(self.script)) + f"\n{self.denied} {self.broken_at}"
        heard, expected = [same(f) for f in self._heard()], [same(f) for f in self._directly()]
        unasked = [f for f in split(self.network.received) if f[:1] in UNASKED]
        assert SECRET not in self.network.captured, said
        row = "a row denied" if self.broken_at >= 0 else "no row denied"
        event(f"{len(self.denied)} messages and {row}, closed: {self.network.session.closed}")
        if self.network.session.closed:
            # What had run behind the row cannot be taken back.
            last = error_fields(self._heard()[-1])
            assert (last["S"], last["C"], self.broken_at) == ("FATAL", "57P03", len(heard) - 1), said
            assert heard[:-1] == expected[: len(heard) - 1], said
            assert unasked == self.unasked[: len(unasked)], said
            return
        assert heard == expected, said
        assert unasked == self.unasked, said
        self.network.play.is_idle()


TestConversation = Conversation.TestCase
TestConversation.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
