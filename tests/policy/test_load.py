"""Reading the files: every complaint has its place, and all of them come at once."""

import json
from pathlib import Path

import pytest

from phiproxy.errors import ConfigError
from phiproxy.policy.load import json_schemas, load_settings
from phiproxy.sql.policy_files import load_policies, load_policy

CONFIG = Path(__file__).parents[2] / "config"

POLICY = """\
database: clinic
deployment: clinic-test
tables:
  public.patients:
    columns:
      ssn: {type: text, indexes: [ssn]}
"""


def complaints(text: str, tmp_path: Path, *, policy: bool = True) -> list[str]:
    """What loading says, without the directory."""
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        (load_policy if policy else load_settings)(path)
    return caught.value.message.replace(f"{tmp_path}/", "").split("\n")


def test_the_examples_load(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(CONFIG / "phiproxy.example.yaml")
    assert settings.kek_uri == f"local:{CONFIG}/keys/kek.json"
    (policy,) = load_policies(settings)
    assert [c.label for c in policy.columns()] == [
        "public.patients.ssn",
        "public.patients.full_name",
        "public.patients.mrn",
        "public.patients.notes",
        "public.charts.doc",
        "public.visits.mrn",
        "public.visits.diagnosis",
    ]


@pytest.mark.parametrize("name", sorted(json_schemas()))
def test_the_committed_schemas_are_current(name: str) -> None:
    """If not: ``python -m phiproxy.policy.json_schema``."""
    assert json.loads((CONFIG / name).read_text()) == json_schemas()[name]


def test_columns_know_their_place(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(POLICY)
    (column,) = load_policy(tmp_path / "p.yaml").columns()
    assert column.at == f"{tmp_path}/p.yaml:6:7"


def test_all_complaints_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = POLICY.replace("type: text", "typ: text, pad: 1") + "tenant: x\ndeploy: 3\n"
    assert complaints(text, tmp_path) == [
        "f.yaml:6:13: unknown key 'typ'; did you mean 'type'?",
        "f.yaml:6:29: Input should be greater than or equal to 2",
        "f.yaml:7:9: a mapping is expected (key: value)",
        "f.yaml:8:1: unknown key 'deploy'; did you mean 'deployment'?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("public.patients", "patients", "f.yaml:4:3: 'patients' must be written schema.table"),
        ("[ssn]", '[ssn, "reverse(ssn)"]', "f.yaml:6:40: reverse() is not among the functions"),
        ("type: text", "type: pg_catalog.point", "f.yaml:6:19: unknown type 'pg_catalog.point'"),
        ("type: text", "type: public.Mood", "f.yaml:6:19: unknown type 'public.Mood'"),
        ("{type: text, indexes: [ssn]}", "{domain: x}", "f.yaml:6:13: there is no domain 'x'"),
        ("deployment: clinic-test\n", "", "f.yaml:1:1: 'deployment' is missing"),
        ("database: clinic", "database: [", "f.yaml:3:7: expected"),
        ("database: clinic", "database: a\ndatabase: secret", 'f.yaml:2:1: duplicate key "database"'),
        ("clinic-test", "clinic\x01test", "f.yaml:2:19: not YAML: a control character"),
    ],
)
def test_places(old: str, new: str, complaint: str, tmp_path: Path) -> None:
    (line,) = complaints(POLICY.replace(old, new), tmp_path)
    assert line.startswith(complaint)
    assert "secret" not in line


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("service: {password: hunter2}", "f.yaml:1:21: a secret is never written here: use env:NAME or file:/path"),
        ("limits:\n  max_message: 64", "f.yaml:2:16: a size is a whole number"),
        ("limits:\n  max_clients: many", "f.yaml:2:16: Input should be a valid integer"),
        ("upstream: {tls: maybe}", "f.yaml:1:17: must be 'disable', 'prefer', 'require', 'verify-ca' or 'verify-full'"),
        ("policies: policy.yaml", "f.yaml:1:11: a list is expected"),
        ("listen: [127.0.0.1:1, nowhere]", "f.yaml:1:9: an address is"),
        ("auth: {mode: md5}", "f.yaml:1:14: must be 'passthrough' or 'scram'"),
        ("lisen: x", "f.yaml:1:1: unknown key 'lisen'; did you mean 'listen'?"),
        ("upstream: {adress: x}", "f.yaml:1:12: unknown key 'adress'; did you mean 'address'?"),
        ("metrics: {lissten: x}", "f.yaml:1:11: unknown key 'lissten'; did you mean 'listen'?"),
        ("- a", "f.yaml:1:1: a mapping is expected"),
        ("tls: {mode: require}", "f.yaml:1:6: tls.mode require needs"),
    ],
)
def test_settings_places(text: str, complaint: str, tmp_path: Path) -> None:
    (line,) = complaints(text, tmp_path, policy=False)
    assert line.startswith(complaint)
    assert "hunter2" not in line


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("# nothing\n")
    assert load_settings(tmp_path / "f.yaml").directory == tmp_path


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"listen: x\nlog: \xe4\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:2:6: not UTF-8"):
        load_settings(tmp_path / "latin.yaml")


def test_two_policies_of_one_database(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(POLICY)
    (tmp_path / "c.yaml").write_text("x: 1")
    (tmp_path / "f.yaml").write_text("policies: [a.yaml, b.yaml, c.yaml]")
    with pytest.raises(ConfigError) as caught:
        load_policies(load_settings(tmp_path / "f.yaml"))
    lines = caught.value.message.replace(f"{tmp_path}/", "").split("\n")
    assert "b.yaml:1:1: database 'clinic' already has a policy, a.yaml:1:1" in lines
    assert "c.yaml:1:1: unknown key 'x'" in lines


def test_complaints_of_what_is_let_go_know_their_place(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(POLICY + "    released: [ssn]\n  a.b: {clear: 3}\n  a.c: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_policy(tmp_path / "p.yaml")
    assert caught.value.message.split("\n") == [
        f"{tmp_path}/p.yaml:8:16: Input should be a valid boolean, unable to interpret input",
        f"{tmp_path}/p.yaml:9:8: a table needs `columns`, `released` or `clear: true`",
    ]
    (tmp_path / "p.yaml").write_text(POLICY + "    released: [ssn]\n")
    with pytest.raises(ConfigError, match=f"{tmp_path}/p.yaml:7:16: public.patients.ssn is protected: it cannot be released too"):
        load_policy(tmp_path / "p.yaml")
