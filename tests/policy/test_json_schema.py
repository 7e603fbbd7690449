"""Writing the JSON Schemas."""

import json
from pathlib import Path

from phiproxy.policy.json_schema import write_schemas
from phiproxy.policy.load import json_schemas


def test_write(tmp_path: Path) -> None:
    written = write_schemas(tmp_path)
    assert {p.name: json.loads(p.read_text()) for p in written} == json_schemas()
