"""The specifications are true of what is built: their examples are computed again, and their lists are those of the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from phiproxy.cli import app
from phiproxy.crypto.blind_tags import derive_index_key, make_tagger
from phiproxy.crypto.envelope import AAD_LABEL, GCM_TAG_LENGTH, build_header, frame
from phiproxy.crypto.key_derivation import expand
from phiproxy.crypto.keyring import DataKey, Keyring, KeyState
from phiproxy.crypto.seal import RECORD_LABEL, ColumnSpec, OpenMemo, make_opener
from phiproxy.index import function_table
from phiproxy.keys.provider import Context
from phiproxy.policy.kek_schemes import KEK_SCHEMES
from phiproxy.policy.protection import SlotState
from phiproxy.session.phases import CLIENT_MAY_SAY, TRANSITIONS
from phiproxy.session.substitutes_and_questions import OWN_NAME, REFUSED_TEXT, RESERVED, SYNTAX_ERROR_TEXT
from tests.commands.conftest import Clinic
from tests.crypto.envelopes import parse_envelope
from tests.docs.pages import ROOT, Page, fenced_blocks
from tests.sql.ask import INDEXED, ask

STORED, SQL, PROTOCOL, CONFIGURATION = (
    Page(f"docs/spec/{name}.md").text for name in ("stored-format", "sql", "protocol", "configuration")
)


def section(number: str) -> str:
    """Return the text of a section of the stored format."""
    return re.split(r"\n##+ ", STORED[STORED.index(f"\n### {number} ") + 1 :])[0]


def first_cells(number: str) -> list[str]:
    """Return what the rows of a section's table are about."""
    return re.findall(r"^\| `(\w+)` \|", section(number), re.MULTILINE)


def worked_example() -> dict[str, str]:
    """Return the lines of the stored format's last section, by name."""
    lines: dict[str, str] = {}
    name = ""
    for block in fenced_blocks(STORED[STORED.index("\n## 9.") :]):
        for line in block.text.splitlines():
            name = line[:20].strip() or name
            lines[name] = lines.get(name, "") + line[20:]
    return lines


EXAMPLE = worked_example()


def of(name: str) -> bytes:
    return bytes.fromhex(EXAMPLE[name])


def test_the_worked_envelope_is_computed_as_it_says() -> None:
    header = build_header(196960845, 2, of("slot 0"), padded=False)
    assert header == of("header")
    assert frame(AAD_LABEL, header, b"clinic-prod", b"", b"d:mrn") == of("AAD")
    assert expand(of("data key"), RECORD_LABEL, of("salt")) == of("record key")
    assert of("header") + of("salt") + of("nonce") + of("ciphertext") + of("GCM tag") == of("envelope")
    assert len(of("GCM tag")) == GCM_TAG_LENGTH
    ring = Keyring(lambda: 0.0)
    ring.put_data_key(DataKey(parse_envelope(of("envelope")).key_id, "d:mrn", "", 1, of("data key"), "active"), 1)
    opened = make_opener(ColumnSpec("clinic-prod", "", "d:mrn", 2), ring, OpenMemo())(of("envelope"))
    assert opened.decode() == EXAMPLE["plaintext"]


def test_the_worked_tag_is_computed_as_it_says() -> None:
    key = derive_index_key(of("index root key"), "c:public.patients.full_name", "lower(@)", 1)
    assert key == of("index key")
    form = EXAMPLE["equality form"].encode()
    assert frame(b"phi/tag/v1", form) == of("tag message")
    ring = Keyring(lambda: 0.0)
    ring.put_index_key(1, 0, key, 1, 1)
    assert make_tagger(1, 0, 1, ring)(form) == of("tag")


def test_the_worked_context_is_computed_as_it_says() -> None:
    assert Context("clinic-prod", "d:mrn", "", "data", 1).encode() == of("context")


def test_every_line_of_the_example_is_tested() -> None:
    assert len(EXAMPLE) == 17


def test_every_label_of_a_derivation_is_specified() -> None:
    """Those of the registry stand on its own page."""
    labels = {label for path in (ROOT / "phiproxy").rglob("*.py") for label in re.findall(r'b"(phi/[a-z/]+/v1)"', path.read_text())}
    assert len(labels) >= 9
    assert [label for label in labels if label not in STORED + Page("docs/registry.md").text] == []


def test_the_states_and_functions_are_those_of_the_code() -> None:
    assert set(first_cells("3.5")) == set(get_args(KeyState))
    assert set(first_cells("6.5")) == set(get_args(SlotState))
    assert [usage for usage in function_table.usages() if usage not in section("6.2")] == []


def test_the_tables_of_the_registry_are_those_that_are_made(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    made: dict[str, set[str]] = {}
    columns = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'phiproxy'"
    for name, column in clinic.sql(columns):
        made.setdefault(name, set()).add(column)
    told = re.findall(r"^\| `(\w+)` \| ([^:;\n]*)", section("3.6"), re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", listed)) for name, listed in told} == made


def examples() -> Iterator[tuple[str, str, str]]:
    """Yield each statement of the SQL specification, what is said to become of it, and the server's text or SQLSTATE."""
    for block in fenced_blocks(SQL):
        for example in block.text.strip().split("\n\n"):
            statement, _, rest = example.partition("\n-- ")
            outcome, _, server = rest.partition("\n")
            kind, _, state = outcome.partition(": ")
            yield statement, kind, server or state


@pytest.mark.parametrize(("statement", "outcome", "answer"), list(examples()), ids=lambda text: text[:60])
def test_an_example_of_sql_is_answered_as_it_says(statement: str, outcome: str, answer: str) -> None:
    assert outcome in ("passes", "becomes", "refused")
    assert ask(statement, planner=INDEXED) == ("=" if outcome == "passes" else answer)


def keys_of(schema: dict[str, Any], whole: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of every key that a JSON Schema knows, ``*`` for names that are free: ``tables.*.columns.*.type``."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    for name, value in schema.get("properties", {}).items():
        yield path + name
        yield from keys_of(value, whole, f"{path}{name}.")
    for option in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from keys_of(option, whole, path)
    for free in (schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()):
        if isinstance(free, dict):
            yield from keys_of(free, whole, f"{path}*.")


@pytest.mark.parametrize(("name", "section", "fewest"), [("phiproxy", "\n## 1.", 50), ("policy", "\n## 3.", 20)])
def test_every_key_of_the_configuration_is_specified(name: str, section: str, fewest: int) -> None:
    schema = json.loads((ROOT / "config" / f"{name}.schema.json").read_text())
    text = CONFIGURATION[CONFIGURATION.index(section) :]
    told = re.findall(r"^\| `([\w.*]+)` \|", text.partition("\n## ")[0] or text[1:].partition("\n## ")[0], re.MULTILINE)
    known = list(dict.fromkeys(keys_of(schema, schema)))
    assert len(known) >= fewest
    assert sorted(told) == sorted(known)


@pytest.mark.parametrize("name", KEK_SCHEMES)
def test_every_kind_of_kek_is_specified_with_its_options(name: str) -> None:
    scheme = KEK_SCHEMES[name]
    (row,) = re.findall(rf"^\| `{name}:.*$", CONFIGURATION, re.MULTILINE)
    assert [option for option in scheme.options if f"`{option}=" not in row] == []
    assert re.findall(r"phiproxy\[(\w+)\]", row) == ([scheme.extra] if scheme.extra else [])
    stored = [line for line in section("3.2").splitlines() if line.startswith(f"| `{name}:")]
    assert stored, "what a wrap holds is in the stored format"


def test_every_command_is_specified() -> None:
    told = re.findall(r"^\| `phiproxy ([a-z -]+?)(?: [A-Z]+)?` \|", CONFIGURATION, re.MULTILINE)
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands |= {f"{group.name} {command.name}" for command in group.typer_instance.registered_commands}
        commands |= set() if group.name in ("audit", "keys") else {str(group.name)}
    assert sorted(told) == sorted(commands)


def test_the_phases_of_a_conversation_are_those_of_the_code() -> None:
    part = PROTOCOL[PROTOCOL.index("\n## 5.") : PROTOCOL.index("\n## 6.")]
    told = re.findall(r"^\| ([A-Z_]+) \| (.*?) \| (.*) \|$", part, re.MULTILINE)
    tags = {name: {ord(tag) for span in re.findall(r"`([^`]*)`", may) for tag in span.split()} for name, may, _ in told}
    assert tags == {phase.name: may for phase, may in CLIENT_MAY_SAY.items()}
    following = {name: set(re.findall(r"\b[A-Z_]{6,}\b", then)) - {"FATAL"} for name, _, then in told}
    assert following == {phase.name: {then.name for then in row.values()} - {phase.name} for phase, row in TRANSITIONS.items()}


def test_the_texts_that_stand_in_for_refused_ones_are_those_of_the_code() -> None:
    part = PROTOCOL[PROTOCOL.index("\n### 7.1") : PROTOCOL.index("\n### 7.2")]
    assert f"`{REFUSED_TEXT.decode()}`" in part
    assert f"the text `{SYNTAX_ERROR_TEXT.decode()}`" in part
    assert f"Bind of the statement `{RESERVED.decode()}`" in part
    assert f"under the name `{OWN_NAME.decode()}`" in " ".join(PROTOCOL.split())
