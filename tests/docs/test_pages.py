"""Every command of the documentation is run by a test or says why not, and the shell that runs them is a reader's."""

from __future__ import annotations

from pathlib import Path

import pytest

from phiproxy.demo.postgres import free_port
from tests.commands.conftest import Clinic
from tests.docs.pages import COMMANDS, DOCS, ROOT, Block, Page, Shell, fenced_blocks

PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
TESTS = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}


def commands_without_a_test(name: str, blocks: list[Block], tests: list[str]) -> list[str]:
    """The sections of a page whose commands no test runs: none names both the page, as ``Page("…")``, and the section."""
    walks = [text for text in tests if f'Page("{name}")' in text]
    sections = {block.section for block in blocks if block.language in COMMANDS and block.not_run is None}
    return sorted(section for section in sections if not any(f'"{section}"' in text for text in walks))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_section_with_commands_is_run_by_a_test_that_names_it(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    assert commands_without_a_test(name, fenced_blocks(path.read_text(encoding="utf-8")), list(TESTS.values())) == []


def test_commands_that_no_test_runs_are_found() -> None:
    blocks = [Block("One", "sh", "true\n", None), Block("Two", "console", "$ true\n", None), Block("Three", "sh", "", "slow")]
    walk = 'Page("x.md").section("One")'
    assert commands_without_a_test("x.md", blocks, [walk]) == ["Two"]
    assert commands_without_a_test("x.md", blocks, ['section("One")']) == ["One", "Two"]


TEXT = """\
# A page

1. First:

   ```console
   $ echo one \\
   > two
   one two
   ```

## Next
<!-- not run: it takes an hour -->
```sh
sleep 3600
```
```sql
SELECT 1
```
"""


def test_blocks_are_read_with_their_section_and_marks() -> None:
    assert fenced_blocks(TEXT) == [
        Block("A page", "console", "$ echo one \\\n> two\none two\n", None),
        Block("Next", "sh", "sleep 3600\n", "it takes an hour"),
        Block("Next", "sql", "SELECT 1\n", None),
    ]
    assert fenced_blocks(TEXT)[0].commands == "echo one \\\ntwo\n"
    with pytest.raises(ValueError, match="not closed"):
        fenced_blocks("```sh\necho\n")


def test_a_section_without_a_block_is_an_error() -> None:
    with pytest.raises(KeyError, match="no block under 'Nowhere'"):
        Page("docs/restore-the-registry.md").section("Nowhere")


def test_the_next_block_has_what_the_last_one_has_set(tmp_path: Path) -> None:
    with Shell(tmp_path, replace={"example.com": "localhost"}) as shell:
        shell.run("export A='x y'\ngreet() { echo \"hello $A\"; }\nmkdir inner\ncd inner\n")
        assert shell.run("greet; pwd; echo example.com") == f"hello x y\n{tmp_path}/inner\nlocalhost\n"


def test_a_command_that_fails_ends_the_walk(tmp_path: Path) -> None:
    with Shell(tmp_path) as shell, pytest.raises(AssertionError, match="no such thing"):
        shell.run("echo 'no such thing' >&2\nfalse\ntouch after\n")
    assert not (tmp_path / "after").exists()


def test_yaml_is_written_into_the_file_that_it_names_or_into_the_configuration(tmp_path: Path) -> None:
    with Shell(tmp_path, replace={"127.0.0.1:5432": "127.0.0.1:1"}) as shell:
        shell.write("# phiproxy.yaml\nupstream: {address: 127.0.0.1:5432}\nkeys: {kek: old}\nworkers: 1\n")
        shell.write("# policy.yaml\ndatabase: clinic\n")
        shell.write("keys:\n  kek: new\n")
    assert (tmp_path / "policy.yaml").read_text() == "# policy.yaml\ndatabase: clinic\n"
    config = (tmp_path / "phiproxy.yaml").read_text()
    assert config == "# phiproxy.yaml\nupstream: {address: 127.0.0.1:1}\nworkers: 1\nkeys:\n  kek: new\n"


def test_a_server_goes_on_while_the_next_commands_run(clinic: Clinic) -> None:
    port = free_port()
    clinic.config.write_text(clinic.config.read_text() + f"listen: 127.0.0.1:{port}\nmetrics: null\n")
    with Shell(clinic.directory, server=clinic.server, database=clinic.database) as shell:
        shell.run("phiproxy keys init\nphiproxy ddl >phi.sql\npsql -q -f phi.sql\nphiproxy serve\n")
        through = f"psql -p {port} -h 127.0.0.1 -At"
        assert shell.run(f"{through} -c \"INSERT INTO patients VALUES (1, '123', 'x') RETURNING ssn\"") == "123\nINSERT 0 1\n"
        assert shell.run("psql -Atc 'SELECT octet_length(ssn) > 70 FROM patients'") == "t\n"
