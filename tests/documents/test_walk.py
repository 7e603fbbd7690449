"""The walk through a document: what is a field, what is clear, and what may not be stored at all."""

import pytest

from phiproxy.documents.field_paths import Path, parse_path, spell_path
from phiproxy.documents.walk import Walk, listed, refused_document, stored_otherwise
from phiproxy.errors import SealError, ValueRefused
from phiproxy.types.json_types import Value

PATHS = ("$.ssn", "$.name.family", "$.history[*].note", "$.extra")
TREE = listed(map(parse_path, PATHS), [parse_path("$.ward"), parse_path("$.meta.at")])


def walked(value: Value, *, others: bool = False) -> Value:
    def change(number: int, value: Value) -> Value:
        return f"<{number} {value!r}>"

    def change_other(path: Path, value: Value) -> Value:
        return f"<{spell_path(path)} {value!r}>"

    return Walk(change, change_other if others else None, refused_document).through(value, TREE)


def test_fields_become_something_else_and_the_rest_stays() -> None:
    assert walked({"ssn": "1", "name": {"family": "A", "given": ["B"]}, "ward": "C", "x": [{"ssn": "not it"}]}) == {
        "ssn": "<0 '1'>",
        "name": {"family": "<1 'A'>", "given": ["B"]},
        "ward": "C",
        "x": [{"ssn": "not it"}],
    }


def test_every_element_of_an_array() -> None:
    assert walked({"history": [{"note": "1"}, None, {"on": "x"}, {"note": None}]}) == {
        "history": [{"note": "<2 '1'>"}, None, {"on": "x"}, {"note": None}]
    }


def test_a_whole_value_is_a_field() -> None:
    assert walked({"extra": {"a": [b"1"]}}) == {"extra": "<3 {'a': [b'1']}>"}


def test_null_stays_and_what_is_absent_stays_absent() -> None:
    assert walked({"ssn": None, "name": None, "history": None}) == {"ssn": None, "name": None, "history": None}
    assert walked({}) == {}
    assert walked(None) is None


def test_other_scalars_with_their_paths() -> None:
    found = walked({"a": ["x", {"b": True, "c": None}], "ward": "C", "meta": {"at": "now", "by": "me"}, "e": []}, others=True)
    assert found == {
        "a": ["<$.a[*] 'x'>", {"b": "<$.a[*].b True>", "c": None}],
        "ward": "C",
        "meta": {"at": "now", "by": "<$.meta.by 'me'>"},
        "e": [],
    }
    assert walked({"meta": "now"}, others=True) == {"meta": "<$.meta 'now'>"}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("x", "$ is a string, and a field is listed in an object there"),
        ([{"ssn": "1"}], "$ is an array, and a field is listed in an object there"),
        ({"name": "Smith"}, "$.name is a string, and a field is listed in an object there"),
        ({"name": [{"family": "A"}]}, "$.name is an array, and a field is listed in an object there"),
        ({"history": {"note": "1"}}, "$.history is an object, and a field is listed in an array there"),
        ({"history": [["1"]]}, "$.history[*] is an array, and a field is listed in an object there"),
    ],
)
def test_a_document_that_is_not_as_the_paths_say_is_refused(document: Value, said: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        walked(document)
    assert (refused.value.message, refused.value.sqlstate) == (said, "22P02")
    with pytest.raises(SealError):
        Walk(lambda _, value: value, None, stored_otherwise).through(document, TREE)
