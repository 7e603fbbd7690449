"""What the commands share."""

from pathlib import Path

import psycopg
import pytest

from phiproxy.commands.command_context import Configuration, database_error, load, print_table, read_settings
from phiproxy.errors import ConfigError
from phiproxy.policy.load import load_settings
from phiproxy.sql.policy_files import load_policies
from tests.harness.server import PostgresServer

CONFIG = Path(__file__).parents[2] / "config" / "phiproxy.example.yaml"


def test_load() -> None:
    assert [p.database for p in load(CONFIG).policies] == ["clinic"]


def test_without_policies_there_is_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("policies: []")
    with pytest.raises(ConfigError, match="nothing is protected"):
        load(tmp_path / "f.yaml")


def test_which_policy() -> None:
    settings = load_settings(CONFIG)
    (clinic,) = load_policies(settings)
    one, two = Configuration(settings, (clinic,)), Configuration(settings, (clinic, clinic))
    assert one.policy_of(None) is clinic
    assert one.policy_of("clinic") is clinic
    with pytest.raises(ConfigError, match="no policy for database 'x'"):
        one.policy_of("x")
    with pytest.raises(ConfigError, match="which database"):
        two.policy_of(None)


def test_a_table_in_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ["a", "b"], [("x" * 300, "[bold]"), ("", 1)])
    lines = capsys.readouterr().out.splitlines()
    assert any("x" * 300 in line and "[bold]" in line for line in lines)


def test_a_servers_error_is_one_line() -> None:
    assert database_error("clinic", psycopg.OperationalError("gone\naway")) == "database 'clinic': gone away"


def test_a_servers_error_quotes_no_value(postgres_server: PostgresServer) -> None:
    """Its own words do, where a value is not what something wants, and those of the application's functions may."""
    cases = {
        "SELECT '078-05-1120'::int": "InvalidTextRepresentation, of which the server's words may quote a value (SQLSTATE 22P02)",
        "DO $$ BEGIN RAISE '078-05-1120'; END $$": "RaiseException, of which the server's words may quote a value (SQLSTATE P0001)",
        "SELECT convert_from('\\xfc', 'UTF8')": "a stored text is not of the encoding that",
        "SELECT no_column": 'column "no_column" does not exist (SQLSTATE 42703)',
    }
    with postgres_server.connect() as conn:
        for statement, told in cases.items():
            with pytest.raises(psycopg.Error) as caught:
                conn.execute(statement.encode())
            text = database_error("clinic", caught.value)
            assert text.startswith(f"database 'clinic': {told}")
            assert "078" not in text


def test_fips_is_required_before_anything_else(tmp_path: Path) -> None:
    """This interpreter's wheels are no FIPS module (tests/keys/test_fips.py has one that is)."""
    (tmp_path / "phiproxy.yaml").write_text("keys: {fips: required}\n")
    with pytest.raises(ConfigError, match=r"keys\.fips is required, but"):
        read_settings(tmp_path / "phiproxy.yaml")
