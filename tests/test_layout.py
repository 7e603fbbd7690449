"""The tests of a module are where its path says: those of phiproxy/wire/framing.py in tests/wire/test_framing.py."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS, CODE = ROOT / "tests", ROOT / "phiproxy"
SPECIAL = {"init": "__init__", "main": "__main__"}
# What is no module's own, and why.
OF_NO_MODULE = {
    "test_circles.py": "what imports what",
    "test_citations.py": "what code, tests and docs cite of each other",
    "test_layout.py": "where tests are",
    "test_package.py": "what is installed",
    "audit/test_forged_kinds.py": "a record of each kind, as whoever holds no key would write it",
    "audit/test_report_in_chromium.py": "the report as a browser shows and prints it",
    "commands/test_filled.py": "what check, ddl and keys say of filled tables, one after the other",
    "commands/test_named_otherwise.py": "jobs over objects of any name, in databases of other encodings",
    "commands/test_new_provider.py": "all that must know of a new kind of KEK",
    "commands/test_new_transform.py": "all that must know of a new index function",
    "commands/test_texts_of_no_encoding.py": "jobs in a database in SQL_ASCII, over bytes that are not UTF-8",
    "crypto/test_vectors.py": "golden vectors of envelopes, tags and derivations",
    "engine/test_leaks.py": "what a whole engine leaves on disk",
    "index/test_postgres.py": "every function of the floor against PostgreSQL's own",
    "index/test_vectors.py": "golden vectors of every function of the floor",
    "keys/providers": "one contract for all providers, against the real parts",
    "keys/test_kill.py": "kill -9 at any moment of what writes the registry",
    "keys/test_lying_tables.py": "a registry whose owner attacks all that reads it",
    "keys/test_upgrade.py": "a registry that an older version has made",
    "net/test_auth_upstream.py": "logins through a whole proxy to servers of every kind",
    "net/test_followed.py": "what is read of the catalogue, watched and read again, after any DDL",
    "session/fast_path/test_conversations.py": "the whole of the fast path against the handlers",
    "session/test_broken_results.py": "a value that does not open, in conversations of every form",
    "session/test_chunking.py": "bytes of conversations cut anywhere",
    "session/test_machine.py": "conversations in which anything may happen",
    "session/test_model.py": "random conversations against a model of the server",
    "session/test_no_sql.py": "what the floor imports",
    "sql/split/test_both_ways.py": "what splits are made of, with the engine, against what PostgreSQL answers",
    "sql/split/test_refused_both_ways.py": "all fixtures that are refused without an engine, likewise",
    "sql/test_examples.py": "the examples in all docstrings of the floor",
    "sql/test_many_statements.py": "what a string of many statements costs, from parsing to the plan",
}


def listed(path: str) -> str | None:
    """Return the row of the list that a test file belongs to: its own or its folder's."""
    return next((row for row in OF_NO_MODULE if path == row or path.startswith(f"{row}/")), None)


def strays() -> set[str]:
    """Return the test files in folders of phiproxy, and beside them, that name no module there."""
    found = set()
    folders = {TESTS, *(TESTS / folder.name for folder in CODE.iterdir() if (folder / "__init__.py").exists())}
    for file in (file for folder in folders for file in folder.glob("test_*.py" if folder == TESTS else "**/test_*.py")):
        path = file.relative_to(TESTS)
        name = path.stem.removeprefix("test_")
        if not (CODE / path.parent / f"{SPECIAL.get(name, name)}.py").exists():
            found.add(path.as_posix())
    return found


def test_a_test_file_is_named_after_the_module_that_it_tests() -> None:
    assert {path for path in strays() if listed(path) is None} == set()


def test_the_list_holds_nothing_else() -> None:
    assert {listed(path) for path in strays()} - {None} == set(OF_NO_MODULE)


def _listing() -> list[Path]:
    return sorted(init.parent for init in CODE.rglob("__init__.py") if ":\n    " in init.read_text().split('"""')[1])


@pytest.mark.parametrize("package", _listing(), ids=lambda package: package.name)
def test_a_package_that_lists_its_modules_lists_all(package: Path) -> None:
    docstring = (package / "__init__.py").read_text().split('"""')[1]
    listed = [name for line in docstring.splitlines() if line.startswith("    ") for name in line.strip().rstrip(",").split(", ")]
    assert sorted(listed) == sorted(path.stem for path in package.glob("*.py") if path.stem != "__init__")
