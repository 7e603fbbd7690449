"""KEK URIs as the configuration names them: where secrets may not stand, which parts are paths.

What a scheme's URI means is its provider's business (``keys``); here only what can be said without its SDK.
"""

from pathlib import Path

from phiproxy.policy.kek_schemes import KEK_SCHEMES


def complaint(uri: str) -> str | None:
    """Return what is wrong with a KEK URI, never repeating a value of its options; None when nothing is."""
    scheme, colon, rest = uri.partition(":")
    if not colon or not rest:
        return "a KEK is named by a URI, for example local:PATH"
    kind = KEK_SCHEMES.get(scheme)
    if kind is None:
        return f"unknown KEK scheme {scheme}:; this version knows {', '.join(KEK_SCHEMES)}"
    name, mark, query = rest.partition("?")
    if not name:
        return f"{scheme}: needs something to stand before the options"
    options = _options(query) if mark else []
    if mark and any(not option or not value for option, value in options):
        return f"{scheme}: options are written ?name=value&name=value"
    for option, value in options:
        if option not in kind.options:
            return f"{scheme}: takes only these options: {', '.join(kind.options)}"
        if option in kind.secrets and not value.startswith(("env:", "file:")):
            return f"{scheme}: {option} is env:NAME or file:/path; a secret is never written here"
    return None


def absolute(uri: str, directory: Path) -> str:
    """Return the URI with its paths made absolute from ``directory``."""
    scheme, _, rest = uri.partition(":")
    kind = KEK_SCHEMES[scheme]
    name, mark, query = rest.partition("?")
    if kind.is_file:
        name = str(directory / name)
    parts = []
    for option, value in _options(query) if mark else []:
        if option in kind.paths:
            parts.append(f"{option}={directory / value}")
        elif option in kind.secrets and value.startswith("file:"):
            parts.append(f"{option}=file:{directory / value.removeprefix('file:')}")
        else:
            parts.append(f"{option}={value}")
    return f"{scheme}:{name}{mark}{'&'.join(parts)}"


def in_file(uri: str) -> bool:
    """Say whether a KEK is read from files once, when it is opened: whether they are still as they must be shows then only."""
    kind = KEK_SCHEMES.get(uri.partition(":")[0])
    return kind is not None and kind.is_file


def _options(query: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (part.partition("=") for part in query.split("&"))]
