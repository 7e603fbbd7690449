"""Names of columns in an expression, as the server prints it, replaced by others; what is in strings, types and calls stays."""

import re
from collections.abc import Mapping
from typing import Final

from phiproxy.policy.identifiers import quote_ident

_TOKEN: Final = re.compile(r"""E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|[^\W\d][\w$]*|::|.""", re.DOTALL)


def renamed_columns(text: str, names: Mapping[str, str]) -> str:
    """Return a text with other names of columns.

    ``btree (((doc ->> 'doc'::text)))`` with doc: other → ``btree (((other ->> 'doc'::text)))``
    """
    given = {quote_ident(name): quote_ident(new) for name, new in names.items()}
    parts = _TOKEN.findall(text)
    for n, part in enumerate(parts):
        before, behind = parts[n - 1] if n else "", parts[n + 1] if n + 1 < len(parts) else ""
        if part in given and before not in (".", "::") and behind != "(":
            parts[n] = given[part]
    return "".join(parts)
