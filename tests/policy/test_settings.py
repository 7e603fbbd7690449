"""phiproxy.yaml: defaults, the values of the manual, and what this version refuses."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from phiproxy.policy.setting_values import Address, Secret
from phiproxy.policy.settings import Settings


def read(data: dict[str, Any]) -> Settings:
    return Settings.model_validate(data, context={"base": Path("/etc/phiproxy")})


def test_defaults() -> None:
    settings = read({})
    assert settings.listen == (Address("127.0.0.1", 6432),)
    assert settings.upstream.tls == "verify-full"
    assert settings.limits.max_message == 64 << 20
    assert settings.keys.cache.ttl == 300.0
    assert settings.keys.rotation.data_key.max_age == 90 * 86400
    assert settings.kek_uri == "local:/etc/phiproxy/config/keys/kek.json"
    assert settings.policies == (Path("/etc/phiproxy/policy.yaml"),)
    assert settings.service.password == Secret("env:PHIPROXY_SERVICE_PASSWORD")
    assert settings.service.schema_ == "phiproxy"
    assert settings.metrics is not None
    assert settings.metrics.listen.port == 9187
    assert settings.directory == Path("/etc/phiproxy")


def test_every_default_equals_what_it_is_when_written() -> None:
    written = read(
        {
            "listen": ["127.0.0.1:6432"],
            "limits": {"max_message": "64MiB", "startup_timeout": "30s", "idle_timeout": "0s", "drain_timeout": "30s"},
            "keys": {"rotation": {"data_key": {"max_age": "90d"}, "root_key": {"max_age": "365d"}}},
            "catalog": {"poll": "1s"},
            "compute": {"engine": "off", "limits": {"rows": 500000, "bytes": "256MiB", "sessions": 16, "timeout": "60s"}},
        }
    )
    assert written == read({})


def test_the_audit_settings_of_earlier_versions_are_ignored() -> None:
    assert read({"audit": {"file": None, "sign": True}}) == read({})
    with pytest.raises(ValidationError, match="Extra inputs"):
        read({"audit": {"file": "audit.log"}})


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"keys": {"kek": "kek.json"}}, "named by a URI"),
        ({"keys": {"kek": "gcpkms:x"}}, "unknown KEK scheme"),
        ({"keys": {"kek": "local:a?passphrase=hunter2"}}, "never written here"),
        ({"keys": {"cache": {"ttl": "10m", "max_stale": "5m"}}}, "must not be shorter"),
        ({"tls": {"mode": "require"}}, "needs tls.certificate"),
        ({"tls": {"certificate": "a"}}, "belong together"),
        ({"tls": {"mode": "verify-client", "certificate": "a", "private_key": "b"}}, "needs tls.client_ca"),
        ({"upstream": {"tls": "verify-ca"}}, "needs upstream.ca_file"),
        ({"service": {"schema": "Bad Schema"}}, "schema"),
        ({"unix_socket_permissions": 777}, "octal digits in quotes"),
        ({"unix_socket_permissions": "999"}, "octal digits in quotes"),
        ({"auth": {"verifiers": "a"}}, "belong to auth.mode scram"),
        ({"compute": {"engine": "on"}}, "off, embedded, or unix:"),
        ({"compute": {"engine": "unix:/run/engine.sock"}}, "off, embedded, or unix:"),
        ({"compute": {"engine": "unix:run/.s.PGSQL.5432"}}, "off, embedded, or unix:"),
        ({"compute": {"binaries": "bin"}}, "belong to compute.engine embedded"),
        ({"compute": {"engine": "unix:/run/.s.PGSQL.5432", "directory": "x"}}, "belong to compute.engine embedded"),
        ({"compute": {"engine": "embedded", "user": "x"}}, "belong to compute.engine unix:"),
        ({"compute": {"limits": {"rows": 0}}}, "greater than or equal to 1"),
        ({"compute": {"limits": {"timeout": "0s"}}}, "greater than 0"),
        ({"compute": {"extensions": ["pg_trgm; drop"]}}, "extensions"),
        ({"compute": {"allow_version": " "}}, "allow_version"),
        ({"compute": {"collation_difference": ""}}, "collation_difference"),
        ({"auth": {"database": "a"}}, "belong to auth.mode scram"),
        ({"auth": {"mode": "scram", "verifiers": "a", "database": "b"}}, "exclude each other"),
        ({"auth": {"mode": "scram", "different_certificates": "allow"}}, "belongs to auth.mode passthrough"),
    ],
)
def test_contradictions(data: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        read(data)


def test_other_spellings() -> None:
    settings = read({"tls": {"min_version": 1.3}, "metrics": None, "policies": [], "service": {"password": None}})
    assert settings.tls.min_version == "1.3"
    assert settings.metrics is None
    assert settings.policies == ()
    assert settings.service.password is None


def test_scram_and_permissions() -> None:
    settings = read({"auth": {"mode": "scram", "verifiers": "verifiers.txt"}, "unix_socket_permissions": "0770"})
    assert settings.auth.verifiers == Path("/etc/phiproxy/verifiers.txt")
    assert settings.unix_socket_permissions == 0o770


def test_workers() -> None:
    assert read({}).worker_count == 1
    assert read({"workers": 7}).worker_count == 7
    assert read({"workers": "auto"}).worker_count >= 1


@pytest.mark.parametrize("workers", [0, -1, 513, 1.5, "2", "many", True, None])
def test_impossible_workers(workers: object) -> None:
    with pytest.raises(ValidationError, match="workers is a number from 1 to 512"):
        read({"workers": workers})


def test_what_takes_a_restart() -> None:
    changed = {"log": {"level": "debug"}, "tls": {"mode": "allow"}, "policies": ["other.yaml"], "keys": {"kek": "local:other.json"}}
    assert read({}).waiting_for_restart(read(changed)) == ["keys", "log"]
    assert read(changed).waiting_for_restart(read(changed)) == []


def test_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read({}).workers = 1


@pytest.mark.parametrize(
    ("kek", "uri"),
    [
        ("local:kek.json", "local:/etc/phiproxy/kek.json"),
        ("local:/a/kek.json?passphrase=env:PW", "local:/a/kek.json?passphrase=env:PW"),
        ("local:kek.json?passphrase=file:pw", "local:/etc/phiproxy/kek.json?passphrase=file:/etc/phiproxy/pw"),
    ],
)
def test_the_kek_is_relative_to_the_file(kek: str, uri: str) -> None:
    assert read({"keys": {"kek": kek}}).kek_uri == uri


def test_compute() -> None:
    assert not read({}).compute.accepts_collation_difference
    own = read({"compute": {"engine": "unix:/run/e/.s.PGSQL.5433", "password": "file:secret", "collation_difference": "me: C"}})
    assert own.compute.socket == Path("/run/e/.s.PGSQL.5433")
    assert own.compute.password == Secret("file:/etc/phiproxy/secret")
    assert own.compute.accepts_collation_difference
    embedded = read({"compute": {"engine": "embedded", "directory": "engine", "binaries": "/opt/pg/bin"}}).compute
    assert embedded.socket is None
    assert (embedded.directory, embedded.binaries) == (Path("/etc/phiproxy/engine"), Path("/opt/pg/bin"))
