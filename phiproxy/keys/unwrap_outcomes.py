"""How unwraps and requests for data keys ended: counted for the metrics and logged, at most one line a minute for each kind."""

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal

from phiproxy.crypto.keyring import Refusal
from phiproxy.errors import ProviderError, ProviderUnavailable
from phiproxy.keys.key_rows import RootRow

Result = Literal["ok", "denied", "unavailable"]

# Every statement that needs the key fails: one line tells as much as a thousand.
TELL_EVERY = 60.0

_REFUSED = "a stored value names a data key that is not used"


class UnwrapOutcomes:
    """Counters of one database, shared by its tenants. ``tell(event, **names and numbers)`` writes a line of the log."""

    def __init__(
        self, tell: Callable[..., Any] = lambda _event, **_fields: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._told: dict[tuple[str, object], float] = {}
        self._untold = Counter[tuple[str, object]]()
        self.unwraps = Counter[Result]()
        self.refused = Counter[Refusal]()
        self.seconds = deque[float](maxlen=1000)
        """How long the last unwraps took; whoever reads them takes them out."""

    def unwrapped(self, root: RootRow, error: ProviderError | None, seconds: float = 0.0) -> None:
        """Count an unwrap: ``error`` is why it was none. Whatever is no outage counts as denied: the answer was no."""
        self.seconds.append(seconds)
        if error is None:
            self.unwraps["ok"] += 1
            return
        result: Result = "unavailable" if isinstance(error, ProviderUnavailable) else "denied"
        self.unwraps[result] += 1
        of_whom = {"tenant": root.tenant} if root.tenant else {}
        text = "the key provider does not answer" if result == "unavailable" else "the key provider does not unwrap a root key"
        self._say(text, root.id, root=root.id, scope=root.scope, purpose=root.purpose, why=error.message, **of_whom)

    def refuse(self, key_id: int, reason: Refusal) -> None:
        """Count a data key that a stored value names and that is not used. Ids may be anybody's, so a line is for a reason."""
        self.refused[reason] += 1
        self._say(_REFUSED, reason, data_key=f"{key_id:08x}", why=reason)

    def _say(self, event: str, of: object, **fields: object) -> None:
        about, now = (event, of), self._clock()
        if now < self._told.get(about, now):
            self._untold[about] += 1
            return
        self._told[about] = now + TELL_EVERY
        if (more := self._untold.pop(about, 0)) > 0:
            fields["not_told"] = more
        self._tell(event, **fields)
