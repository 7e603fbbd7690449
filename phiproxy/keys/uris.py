"""KEK URIs: ``scheme:rest?option=value&…``, and options that name secrets without being them.

An error never repeats an option's value: a PIN may stand there though it should not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.provider import SecretReader


@dataclass(frozen=True, slots=True)
class KekUri:
    """A KEK URI in parts; ``name`` is what the registry may know of it: no options."""

    scheme: str
    rest: str
    options: dict[str, str] = field(repr=False)
    secrets: SecretReader = field(repr=False)

    @property
    def name(self) -> str:
        """The URI without its options."""
        return f"{self.scheme}:{self.rest}"

    def secret(self, option: str) -> str | None:
        """Return the secret that an option refers to, or None without the option.

        Raises ProviderMisconfigured when the option is not ``env:NAME`` or ``file:/path``, ConfigError when it cannot be read.
        """
        reference = self.options.get(option)
        if reference is None:
            return None
        if not reference.startswith(("env:", "file:")):
            raise ProviderMisconfigured(f"keys.kek: {option} must be env:NAME or file:/path, never the secret itself")
        return self.secrets(reference)


def parse_kek_uri(uri: str, grammar: str, allowed: Iterable[str], secrets: SecretReader) -> KekUri:
    """Split a KEK URI; ``grammar`` is what the complaint shows.

    Raises ProviderMisconfigured when nothing stands before ``?``, an option is unknown, empty or given twice.
    """
    scheme, _, tail = uri.partition(":")
    rest, mark, query = tail.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in options]
    wrong = not rest or (mark and not query) or len(set(names)) != len(names) or not set(names) <= set(allowed)
    if wrong or any(not value for _, value in options):
        raise ProviderMisconfigured(f"keys.kek: write {grammar}")
    return KekUri(scheme, rest, dict(options), secrets)
