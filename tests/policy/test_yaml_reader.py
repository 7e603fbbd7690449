"""A YAML file is read as YAML 1.2 reads it, every part of it knows its line and column, and what has no one meaning is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from phiproxy.errors import ConfigError
from phiproxy.policy.yaml_reader import Document, read_document


def read(path: Path, text: str) -> Document:
    file = path / "f.yaml"
    file.write_bytes(text.encode())
    return read_document(file)


def refusal(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path, text)
    return caught.value.message.removeprefix(f"{path}/f.yaml:")


# How it is written, and what it is. Of those marked 1.1, YAML 1.1 makes something else.
SCALARS: list[tuple[str, object]] = [
    *((text, text) for text in ("on", "On", "ON", "off", "Off", "OFF", "yes", "Yes", "YES", "no", "No", "NO", "y", "n")),  # 1.1
    *((text, True) for text in ("true", "True", "TRUE")),
    *((text, False) for text in ("false", "False", "FALSE")),
    *((text, None) for text in ("", "~", "null", "Null", "NULL")),
    *((text, text) for text in ("tRue", "nULL", "None", "<<", "=", "a#b", "local:a?b=c", "http://x?y=z")),
    *((text, text) for text in ("1:30", "12:30:45", "1:30.5", "127.0.0.1:6432", "::1", "30s", "64MiB", "1.2.3")),  # 1.1
    *((text, text) for text in ("2020-01-01", "2020-01-01T00:00:00Z", "2020-01-01 10:00:00")),  # 1.1
    *(("010", 10), ("0777", 777), ("08", 8), ("0o777", 511), ("0o8", "0o8"), ("-0o7", -7), ("0x1F", 31), ("0b101", 5)),  # 1.1
    *(("0", 0), ("-0", 0), ("+1", 1), ("-17", -17), ("1_000", 1000), ("_1", "_1"), ("0x", "0x"), ("-_", "-_"), ("1e", "1e")),
    *(("1e3", 1000.0), ("1E+3", 1000.0), ("1.e1", 10.0)),  # 1.1
    *((".5", 0.5), ("-.5", -0.5), ("1.", 1.0), ("1.2", 1.2), ("1.5e-3", 0.0015), ("1_0.5", 10.5), (".", "."), ("._", "._")),
    *((".inf", math.inf), ("-.INF", -math.inf), ("inf", "inf"), ("nan", "nan")),
    *(("'010'", "010"), ('"true"', "true"), ("''", ""), ("!!str 1", "1"), ("!!str true", "true"), ("!!int '3'", 3)),
    *(("!!float 3", 3.0), ("!!bool 'TRUE'", True), ("!!null x", None)),
    *(
        ('"a\\/b\\u00e9\\N"', "a/bé\x85"),
        ("'it''s'", "it's"),
        ("a b\n   c", "a b c"),
        ("|\n   x\n   y\n", "x\ny\n"),
        (">\n   x\n   y\n", "x y\n"),
    ),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    said = read(tmp_path, f"k:\n - {text}").data["k"]
    assert said == [value]
    assert isinstance(said, list)
    assert type(said[0]) is type(value)
    if text and "\n" not in text and not text.startswith("::"):
        assert read(tmp_path, f"k: [{text}, z]").data["k"] == [value, "z"]
        assert read(tmp_path, f"k: {{m: {text}}}").data["k"] == {"m": value}


def test_not_a_number(tmp_path: Path) -> None:
    value = read(tmp_path, "k: .nan").data["k"]
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize("text", ["on", "true", "null", "010", "1e3", "2020-01-01", "=", "1:30", "a?b"])
def test_a_key_is_the_text_that_is_written(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"{text}: {{{text}: v}}").data == {text: {text: "v"}}


def test_parts_know_their_line_and_column(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &x {p: 1, q: [b,  {c: d}]}\nz:\n  <<: *x\n  q: 3\n-\u00e9:\n- 1\n-\n  - é: 2\ne:\n")
    at = {location: (document.position(location, key=True), document.position(location)) for location in document.marks}
    assert {location: tuple(place.removeprefix(f"{tmp_path}/f.yaml:") for place in both) for location, both in at.items()} == {
        ("a",): ("1:1", "1:4"),
        ("a", "p"): ("1:8", "1:11"),
        ("a", "q"): ("1:14", "1:17"),
        ("a", "q", 0): ("1:18", "1:18"),
        ("a", "q", 1): ("1:22", "1:22"),
        ("a", "q", 1, "c"): ("1:23", "1:26"),
        ("z",): ("2:1", "3:3"),
        ("z", "p"): ("1:8", "1:11"),  # where it is written
        ("z", "q"): ("4:3", "4:6"),
        ("-é",): ("5:1", "6:1"),
        ("-é", 0): ("6:3", "6:3"),
        ("-é", 1): ("8:3", "8:3"),
        ("-é", 1, 0): ("8:5", "8:5"),
        ("-é", 1, 0, "é"): ("8:5", "8:8"),
        ("e",): ("9:1", "9:3"),
    }
    assert document.position(("a", "nowhere", 3)) == f"{tmp_path}/f.yaml:1:4"
    assert document.position(("nowhere",)) == f"{tmp_path}/f.yaml:1:1"


def test_aliases_and_merges(tmp_path: Path) -> None:
    text = "a: &x {p: 1, q: 2}\nb: &y {q: 3, r: 4}\nc: *x\nd: {<<: [*x, *y], p: 5}\ne: {<<: *y}\nf: {<<: {s: 6}}\n"
    assert read(tmp_path, text).data == {
        "a": {"p": 1, "q": 2},
        "b": {"q": 3, "r": 4},
        "c": {"p": 1, "q": 2},
        "d": {"p": 5, "q": 2, "r": 4},
        "e": {"q": 3, "r": 4},
        "f": {"s": 6},
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "~", "\ufeff# nothing"])
def test_an_empty_file_is_an_empty_mapping(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).data == {}


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200)) + "end: [*a199]\n"
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\na: 2\n", '2:1: duplicate key "a"'),
        ("a: {b: 1, 'b': 2}\n", '1:11: duplicate key "b"'),
        ("1: a\n'1': b\n", '2:1: duplicate key "1"'),
        ("a: &x {p: 1}\nb:\n  <<: *x\n  <<: *x\n", '4:3: duplicate key "<<"'),
        ("b:\n  <<: 3\n", "2:7: << merges a mapping, or a list of mappings"),
        ("b:\n  <<: [{}, 3]\n", "2:12: << merges a mapping, or a list of mappings"),
        ("? [a]\n: b\n", "1:3: a key is a text"),
        ("a: !!int x\n", "1:4: not written as !!int is"),
        ("a: !!bool 1\n", "1:4: not written as !!bool is"),
        ("a: " + "1" * 5000, "1:4: not written as !!int is"),
        ("a: [!!binary aGk=]\n", "1:5: the tag tag:yaml.org,2002:binary has no meaning here"),
        ("a: !!set {b}\n", "1:4: the tag tag:yaml.org,2002:set has no meaning here"),
        ("a: !!python/object:os.system [b]\n", "1:4: the tag tag:yaml.org,2002:python/object:os.system has no meaning here"),
        ("a: !env HOME\n", "1:4: the tag !env has no meaning here"),
        ("a: *x\n", "1:4: found undefined alias 'x'"),
        ("a: &x [b, *x]\n", "1:4: an alias stands inside of what it names"),
        ("a: &x {<<: *x}\n", "1:4: an alias stands inside of what it names"),
        ("%YAML 1.1\n---\na: off\n", "1:1: %YAML: this file is read as YAML 1.2 and no other"),
        ("a: 1\n---\nb: 1\n", "2:1: but found another document"),
        ("- a\n", "1:1: a mapping is expected (key: value)"),
        ("a: [b\n", "2:1: expected ',' or ']', but got '<stream end>'"),
        ("a: b\n c: d\n", "2:3: mapping values are not allowed here"),
        ("a: b\x01\n", "1:5: not YAML: a control character"),
        ("é: 1\n# \u2028\n", '2:3: a line separator that YAML does not have; in a text write "\\N", "\\L" or "\\P"'),
        ("a: " + "[" * 5000, "1:104: nested too deeply"),
        (CHAIN, "1:10: nested too deeply"),
        (LAUGHS, "1:16: aliases repeat more than 200000 parts of the file"),
        (MERGES, "2:5: aliases repeat more than 200000 parts of the file"),
    ],
)
def test_what_has_no_one_meaning_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    assert refusal(tmp_path, text) == complaint


def test_a_duplicate_key_is_told_without_its_values(tmp_path: Path) -> None:
    assert "hunter2" not in refusal(tmp_path, "a: hunter2\na: hunter2\n")


def test_ten_thousand_columns_by_one_alias_are_no_bomb(tmp_path: Path) -> None:
    columns = "".join(f"  c{n}: *c\n" for n in range(10_000))
    document = read(tmp_path, f"c: &c {{type: text, indexes: [ssn, 'left(ssn,4)'], distinct: 1000, pad: 64}}\ncolumns:\n{columns}")
    assert len(document.data["columns"]) == 10_000  # type: ignore[arg-type]
    assert document.position(("columns", "c9999", "pad")) == f"{tmp_path}/f.yaml:1:72"


def test_a_file_of_more_than_four_mebibytes_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "#" * (4 << 20) + "\n").endswith("larger than 4 MiB")
