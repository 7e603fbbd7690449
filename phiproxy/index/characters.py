"""What one database makes of characters: upper and lower case, digits.

Families are tables that belong to the normaliser version (crypto.md section 6), never Python's own: its Unicode is that of another
year than the server's.
"""

from __future__ import annotations

from dataclasses import dataclass

from phiproxy.errors import ValueRefused
from phiproxy.index.texts import ascii_digits


class UnknownCharacter(ValueRefused):
    """A character of which the proxy does not know what the server makes of it (0A000)."""

    sqlstate = "0A000"


@dataclass(frozen=True, slots=True)
class Characters:
    """The characters of one database: those of a ``family``; of the code points in ``differing`` the server says otherwise.

    The family ``""`` knows ASCII only, and refuses everything else.
    """

    family: str = ""
    differing: frozenset[int] = frozenset()

    def lower(self, value: bytes) -> bytes:
        """Return the value in lower case."""
        return self._known(value).lower()

    def upper(self, value: bytes) -> bytes:
        """Return the value in upper case."""
        return self._known(value).upper()

    def digits(self, value: bytes) -> bytes:
        """Leave the digits only."""
        return ascii_digits(self._known(value))

    def _known(self, value: bytes) -> bytes:
        if not value.isascii():
            raise UnknownCharacter("the case of a character beyond ASCII is not known here")
        return value


ASCII = Characters()
