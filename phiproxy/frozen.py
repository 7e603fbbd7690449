"""Dataclasses whose ``frozen`` is for mypy, which refuses to set their fields; nothing is checked at run time.

What ``dataclasses`` freezes sets each field by a call of ``object.__setattr__``: that was an eighth of the time of an analysis.
It is for what is made anew for each statement, message or row. All else is frozen by ``dataclasses`` itself.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, eq: bool = True, **options: Any) -> Any:
        """Return what ``dataclasses.dataclass`` returns; one that is ``frozen`` has a hash as there, and its fields can be set."""

        def decorated(cls: type) -> type:
            hashed = frozen and eq and "__hash__" not in vars(cls)
            return dataclasses.dataclass(eq=eq, unsafe_hash=hashed, **options)(cls)

        return decorated
