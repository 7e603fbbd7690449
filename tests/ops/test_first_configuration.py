"""The files that ``phiproxy init`` writes are read as every command reads them, whatever the names."""

from pathlib import Path

import pytest

from phiproxy.ops.first_configuration import policy_text, role_text, settings_text
from phiproxy.ops.likely_columns import propose
from phiproxy.policy.identifiers import yaml_text
from phiproxy.policy.load import load_settings
from phiproxy.policy.setting_values import Address
from phiproxy.policy.yaml_reader import read_document
from phiproxy.sql.policy_files import load_policies
from tests.ops.test_likely_columns import column

NAMES = ["patients", "Patients", 'a "quoted" one', "true", "null", "order", "tabelle: ä#", "1st", "back\\slash", "new\nline"]


@pytest.mark.parametrize("text", [*NAMES, "varchar(12)", "numeric(10,2)", "yes", "010", "- x", "{}", "", "text[]"])
def test_a_text_is_read_as_that_text(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"{yaml_text(text)}: [{yaml_text(text)}]\n", encoding="utf-8")
    assert read_document(tmp_path / "x.yaml").data == {text: [text]}


def write(directory: Path, database: str, policy: str) -> None:
    settings = settings_text(
        listen=Address("::1", 6432),
        upstream=Address(path="/run/x/.s.PGSQL.5432"),
        tls="disable",
        tls_comment="",
        schemas=Path("/s"),
    )
    (directory / "phiproxy.yaml").write_text(settings, encoding="utf-8")
    (directory / "policy.yaml").write_text(policy, encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_comes_through(name: str, tmp_path: Path) -> None:
    columns = [
        column("ssn", table=name, schema=name),
        column("ssn", table="other"),
        column("lastName", table=name, schema=name),
        column("notes", "jsonb", table=name, schema=name),
    ]
    database = name if name.isprintable() else "clinic"
    write(tmp_path, database, policy_text(database, propose(columns), Path("/s")))
    settings = load_settings(tmp_path / "phiproxy.yaml")
    assert str(settings.listen[0]) == "[::1]:6432"
    (policy,) = load_policies(settings)
    assert policy.database == database
    assert {(c.schema, c.table, c.name) for c in policy.columns()} == {c.address for c in columns}


def test_what_is_not_protected_is_a_comment(tmp_path: Path) -> None:
    text = policy_text("clinic", propose([column("city"), column("city", table="towns"), column("ssn")]), Path("/s"))
    assert "# city: {type: text}\n" in text
    write(tmp_path, "clinic", text)
    (policy,) = load_policies(load_settings(tmp_path / "phiproxy.yaml"))
    assert [(c.table, c.name) for c in policy.columns()] == [("patients", "ssn")]


def test_without_any_proposal_the_file_is_a_beginning(tmp_path: Path) -> None:
    write(tmp_path, "clinic", policy_text("clinic", [], Path("/s")))
    (policy,) = load_policies(load_settings(tmp_path / "phiproxy.yaml"))
    assert not policy.columns()


def test_the_role_gets_what_the_columns_need_and_no_more() -> None:
    columns = [column("ssn", row_security=True), column("city", table="towns")]
    text = role_text("cli nic", propose(columns), Path("/etc/it's/secret"))
    assert 'GRANT SELECT, UPDATE ON "public"."patients" TO "phiproxy";' in text
    assert "towns" not in text
    assert 'ALTER ROLE "phiproxy" BYPASSRLS;' in text
    assert "\\set secret `cat '/etc/it'\\''s/secret'`" in text
    assert "BYPASSRLS" not in role_text("clinic", propose([column("ssn")]), Path("/x"))
