"""What a statement does to its session: a statement that runs another does what that does to settings."""

from __future__ import annotations

from phiproxy.effects import Effects, is_purpose, is_true


def test_a_statement_that_runs_another_sets_what_that_sets_and_keeps_what_it_sets_itself() -> None:
    executes = Effects(executes="s", styles_changed=True)
    executes.sets_as(Effects(path_unknown=True, path=("a",), encoding=True, created=("t",)))
    assert executes == Effects(executes="s", styles_changed=True, path_unknown=True, encoding=True)


def test_a_purpose_is_a_short_code() -> None:
    assert all(is_purpose(text) for text in ("TREAT", "our-study:7", "a" * 64))
    assert not any(is_purpose(text) for text in ("", "for Jane Doe", "-x", "a" * 65, "Ä", "TREAT\n"))


def test_what_is_true_is_so_as_postgresql_reads_it() -> None:
    for text in ("t", "TRUE", " tr ", "yes", "y", "on", "1"):
        assert is_true(text)
    for text in ("", " ", "f", "false", "no", "off", "o", "0", "truer", "2"):
        assert not is_true(text)
