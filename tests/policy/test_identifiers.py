"""Names in policy keys."""

import pytest
import yaml

from phiproxy.policy.identifiers import quote_ident, shorten, shown_expression, split_identifiers, yaml_text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("public.patients", ("public", "patients")),
        ('"My Schema"."T"', ("My Schema", "T")),
        ('"a.b".c', ("a.b", "c")),
        ('"say ""x"""', ('say "x"',)),
        ("größe", ("größe",)),
        ("t$1", ("t$1",)),
    ],
)
def test_split(text: str, parts: tuple[str, ...]) -> None:
    assert split_identifiers(text) == parts


@pytest.mark.parametrize("text", ["", "a.", ".a", "a b", "1a", '"a', 'a"b"', '""', "a..b", "Public.t", "a" * 64])
def test_not_a_name(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        split_identifiers(text)


def test_upper_case_is_explained() -> None:
    with pytest.raises(ValueError, match=r"lower case; write .public\.patients."):
        split_identifiers("public.Patients")


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("patients", "patients"), ("user", '"user"'), ("My", '"My"'), ('a"b', '"a""b"'), ("a$", '"a$"'), ("1a", '"1a"')],
)
def test_quote_ident(name: str, quoted: str) -> None:
    assert quote_ident(name) == quoted
    assert quote_ident(name, always=True) == (quoted if quoted.startswith('"') else f'"{name}"')


def test_shorten_cuts_between_characters() -> None:
    assert shorten("short", "0123abcd") == "short"
    long = shorten("ü" * 60, "0123abcd")
    assert len(long.encode()) <= 63
    assert long.endswith("ü_0123abcd")


@pytest.mark.parametrize(
    ("expression", "column", "shown"),
    [
        ("@", "ssn", "ssn"),
        ("left(lower(@),3)", '"Name"', 'left(lower("Name"),3)'),
        ("btrim(@,'@''@')", "m", "btrim(m,'@''@')"),
        ("lower(jsonb_extract_path_text(@,'city'))", "doc", "lower(doc->>'city')"),
        ("jsonb_extract_path(@,'name','family')", "doc", "doc#>'{name,family}'"),
        ("json_extract_path_text(json_extract_path(@,'a'),'b')", "d", "json_extract_path_text(d->'a','b')"),
        ("jsonb_extract_path_text(@,'it''s')", "d", "jsonb_extract_path_text(d,'it''s')"),
        ("jsonb_extract_path_text(@,'a,b','c')", "d", "jsonb_extract_path_text(d,'a,b','c')"),
        ("jsonb_extract_path_text(@)", "d", "jsonb_extract_path_text(d)"),
    ],
)
def test_an_index_expression_as_it_is_written(expression: str, column: str, shown: str) -> None:
    assert shown_expression(expression, column) == shown


@pytest.mark.parametrize(
    "name",
    ["ssn", "no", "On", "a: b", "a # b", "a\nb", "a\tb ", 'a"b', "a'b", "a\\b", "{a}", "é", "- a", "a, b", "%a", "😀", "\x7f"],
)
def test_a_name_in_a_list_of_yaml_is_read_as_it_was(name: str) -> None:
    for text in (name, quote_ident(name), f"left({quote_ident(name)},3)"):
        assert yaml.safe_load(f"tables: {{{yaml_text(text)}: {{released: [{yaml_text(text)}, b]}}}}") == {
            "tables": {text: {"released": [text, "b"]}}
        }
