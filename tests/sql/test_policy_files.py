"""Policy files: their index expressions are read by the statements' parser."""

from pathlib import Path

import pytest

from phiproxy.errors import ConfigError
from phiproxy.sql.policy_files import load_policy

POLICY = """\
database: clinic
deployment: clinic-test
tables:
  public.patients:
    columns:
      ssn: {{type: text, indexes: ["{0}"]}}
"""


def test_an_expression_is_spelled(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(POLICY.format("((ssn)::text)"))
    (column,) = load_policy(tmp_path / "p.yaml").columns()
    assert column.expressions == ("@",)


def test_one_that_is_none_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(POLICY.format("ssn ||"))
    with pytest.raises(ConfigError, match=r"p\.yaml:6:\d+: 'ssn \|\|' is no index expression"):
        load_policy(tmp_path / "p.yaml")
