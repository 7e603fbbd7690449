"""How the demo shows a value: hex shortened to what says that it is an envelope, text as it is."""

from __future__ import annotations

import io

from rich.console import Console

from phiproxy.demo.show import Show, _shown


def test_an_envelope_is_shown_by_its_magic_and_length() -> None:
    assert _shown(b"\xf5\x50\x01" + bytes(80)) == "\\xf55001… 83 B"


def test_text_that_looks_like_markup_is_text() -> None:
    assert _shown("[red]x") == "\\[red]x"
    out = io.StringIO()
    Show(Console(file=out, width=80)).step("[bold]no markup[/bold]")
    assert "[bold]no markup[/bold]" in out.getvalue()
