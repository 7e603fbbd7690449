"""Golden vectors: what normaliser version 1 made of values yesterday it makes for ever. The files are never regenerated."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from phiproxy.crypto.blind_tags import derive_index_key
from phiproxy.index.characters import Characters
from phiproxy.index.transform import transform
from phiproxy.policy.column_types import parse_type
from phiproxy.types.codecs import codec

DIRECTORY = Path(__file__).parent.parent / "vectors"
# Of the first version, and of paths into documents, which came later.
FILE, PATHS = (json.loads((DIRECTORY / name).read_text(encoding="utf-8")) for name in ("index-v1.json", "index-paths-v1.json"))


def _tag(vector: dict[str, Any], form: bytes | None) -> str:
    if form is None:
        return "00" * 16
    key = derive_index_key(bytes.fromhex(FILE["index_root"]), FILE["identity"], vector["expression"], FILE["normaliser"])
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in (b"phi/tag/v1", form))
    return (bytes([FILE["generation"]]) + hmac.digest(key, framed, hashlib.sha256)[:15]).hex()


@pytest.mark.parametrize("vector", [*FILE["vectors"], *PATHS["vectors"]], ids=lambda v: f"{v['expression']} of {v['type']}")
def test_vector(vector: dict[str, Any]) -> None:
    made = transform(vector["expression"], parse_type(vector["type"]).name, Characters(vector["family"]))
    answer = made.apply(vector["canonical"].encode())
    assert (made.normaliser, made.result) == (FILE["normaliser"], vector["result"])
    assert (None if answer is None else answer.decode()) == vector["answer"]
    form = None if answer is None else codec(parse_type(made.result)).form(answer)
    assert (None if form is None else form.hex()) == vector["form"]
    assert _tag(vector, form) == vector["tag"]


def test_the_files_have_the_same_keys() -> None:
    assert {**FILE, "vectors": None} == {**PATHS, "vectors": None}


def test_equal_values_of_two_spellings_have_one_form() -> None:
    forms = {(v["type"], v["canonical"]): v["form"] for v in FILE["vectors"] if v["expression"] == "@"}
    assert forms["int4", "7"] == forms["numeric", "7.00"]
