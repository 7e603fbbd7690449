"""KEK URIs: ``scheme:rest?option=value&…``, and options that name secrets without being them.

An error never repeats an option's value: a PIN may stand there though it should not.
"""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.provider import SecretReader
from phiproxy.policy.kek_schemes import KEK_SCHEMES


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

    def misused(self) -> ProviderMisconfigured:
        """Return the error that shows how a URI of this scheme is written."""
        return ProviderMisconfigured(f"keys.kek: write {KEK_SCHEMES[self.scheme].usage}")

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


def parse_kek_uri(uri: str, secrets: SecretReader) -> KekUri:
    """Split a KEK URI; ProviderMisconfigured when nothing stands before ``?``, or an option is unknown, empty or given twice."""
    scheme, _, tail = uri.partition(":")
    rest, mark, query = tail.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    parsed = KekUri(scheme, rest, dict(options), secrets)
    wrong = not rest or (mark and not query) or len(parsed.options) != len(options)
    if wrong or not parsed.options.keys() <= {*KEK_SCHEMES[scheme].options} or not all(parsed.options.values()):
        raise parsed.misused()
    return parsed
