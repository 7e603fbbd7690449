"""``phiproxy ddl`` on a real database."""

from tests.commands.conftest import Clinic


def test_before_keys_init(clinic: Clinic) -> None:
    code, out, err = clinic.run("ddl")
    assert (code, out) == (1, "")
    assert "no key registry" in err


def test_apply_and_again(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    clinic.sql(clinic.ok("ddl"))
    assert clinic.ok("ddl") == "-- nothing to do: the tables are as the policy needs them\n"
    types = clinic.sql("SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 'patients'::regclass AND attnum > 0")
    assert types == [("integer",), ("bytea",), ("bytea",)]


def test_every_complaint_has_its_line(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    clinic.sql("INSERT INTO patients VALUES (1, 'x', 'y')")
    code, out, err = clinic.run("ddl")
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert [line.split(": public")[0] for line in lines] == [
        f"phiproxy: {clinic.policy}:6:7",
        f"phiproxy: {clinic.policy}:7:7",
    ]
    assert all("public.patients has 1 rows in plaintext, which `phiproxy encrypt` seals in place" in line for line in lines)


def test_two_databases(clinic: Clinic) -> None:
    clinic.config.write_text(clinic.config.read_text().replace("[policy.yaml]", "[policy.yaml, other.yaml]"))
    other = clinic.server.create_database()
    try:
        text = clinic.policy.read_text().replace(clinic.database, other)
        (clinic.directory / "other.yaml").write_text(text)
        with clinic.server.connect(other) as conn:
            conn.execute("CREATE TABLE patients (id int PRIMARY KEY, ssn text UNIQUE, note text)")
        clinic.ok("keys", "init")
        out = clinic.ok("ddl")
        assert out.count("\\connect") == 2
        assert out.count("COMMIT;") == 2
        assert "\\connect" not in clinic.ok("ddl", "-d", other)
    finally:
        clinic.server.drop_database(other)
