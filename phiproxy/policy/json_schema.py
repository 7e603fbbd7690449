"""``python -m phiproxy.policy.json_schema [DIRECTORY]`` writes the JSON Schemas of both files. A test says when it is due."""

import json
import sys
from pathlib import Path

from phiproxy.policy.load import json_schemas


def write_schemas(directory: Path) -> list[Path]:
    """Write every schema into the directory and return the files; raises OSError."""
    written = []
    for name, schema in json_schemas().items():
        path = directory / name
        path.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1] if len(sys.argv) > 1 else "config"))
