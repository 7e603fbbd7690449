"""The types: those that columns are protected as, those that only stand beside them, and values of each.

Values of one family overlap, so that comparisons between its types find something.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Type:
    """A type as it is written, and values of it as text; ``bad`` are texts that it does not take, or not as they are."""

    key: str
    name: str
    family: str
    values: tuple[str, ...]
    bad: tuple[str, ...] = ()
    protected: bool = True
    prefixed: bool = True
    """Whether ``name 'value'`` can be written."""

    @property
    def base(self) -> str:
        """Return the name without a length: what a parameter is declared as."""
        name = self.name.partition("(")[0] + ("[]" if "[]" in self.name else "")
        return {"char": "bpchar", "integer[][]": "integer[]", "text[][]": "text[]"}.get(name, name)

    @property
    def bare(self) -> bool:
        """Whether its values are also written without quotes."""
        return self.family in ("number", "bool")


_WHOLE = ("1", "0", "7", "2", "-1", "100")
_EXACT = ("1", "2.5", "0", "0.1", "7", "-1", "1.00", "0.005", "NaN", "0.2")
_FLOAT = ("1", "2.5", "0", "0.1", "7", "-0", "NaN", "0.2", "16777217", "-1")
_TEXT = ("ab", "x", "ab ", "", "AB", "abc", "ab    ", "7", "ok", "12")
_SHORT = ("ab", "x", "ab ", "", "AB", "abc", "7", "ok", "12")
_NO_NUMBER = ("abc", "", "1e400")

TYPES: tuple[Type, ...] = (
    Type("i4", "integer", "number", _WHOLE, ("2.5", "99999999999", *_NO_NUMBER)),
    Type("i2", "smallint", "number", _WHOLE, ("2.5", "32768", *_NO_NUMBER)),
    Type("i8", "bigint", "number", (*_WHOLE, "9007199254740993"), ("2.5", *_NO_NUMBER)),
    Type("nu", "numeric", "number", _EXACT, ("abc", "")),
    Type("n2", "numeric(6,2)", "number", _EXACT, ("abc", "1.005", "99999.99")),
    Type("f4", "real", "number", _FLOAT, ("abc", "1e400")),
    Type("f8", "double precision", "number", (*_FLOAT, "0.30000000000000004"), ("abc", "1e400")),
    Type("age", "age", "number", ("1", "0", "7", "2", "100"), ("-1", "abc")),
    Type("tx", "text", "text", _TEXT),
    Type("vc", "varchar(12)", "text", _TEXT, ("abcdefghijklmno",)),
    Type("vs", "varchar(3)", "text", _SHORT, ("abcdef",)),
    Type("ch", "char(6)", "text", _TEXT, ("abcdefgh",)),
    Type("c3", "char(3)", "text", _SHORT, ("abcdef",)),
    Type("zip", "zip", "text", _SHORT, ("bad", "abcdef")),
    Type("ci", "citext", "text", (*_TEXT, "Ab")),
    Type("md", "mood", "text", ("ok", "x", "ab"), ("angry", "OK", "")),
    Type("bo", "boolean", "bool", ("true", "false"), ("maybe", "yes", "2")),
    Type(
        "da", "date", "moment", ("2000-01-01", "1999-12-31", "infinity", "0044-03-15 BC"), ("2000-13-01", "abc", "2000-01-01 12:30")
    ),
    Type("ts", "timestamp", "moment", ("2000-01-01", "2000-01-01 12:30:00", "1999-12-31 23:59:59.999999", "infinity"), ("abc",)),
    Type("t0", "timestamp(0)", "moment", ("2000-01-01", "2000-01-01 12:30:00", "infinity"), ("abc", "1999-12-31 23:59:59.6")),
    Type("tz", "timestamptz", "moment", ("2000-01-01", "2000-01-01 12:30:00+02", "1999-12-31 00:00:00+00", "infinity"), ("abc",)),
    Type("ti", "time", "time", ("00:00:00", "12:30:00", "23:59:59.999999"), ("25:00", "abc")),
    Type("iv", "interval", "time", ("1 day", "24:00:00", "1 mon", "30 days", "00:00:00"), ("abc",)),
    Type("uu", "uuid", "uuid", ("c56a4180-65aa-42ec-a945-5fd21dec0538", "{C56A418065AA42ECA9455FD21DEC0539}"), ("abc",)),
    Type("by", "bytea", "bytes", ("\\x6162", "ab", "", "\\x00"), ("\\xa",)),
    Type("ia", "integer[]", "array", ("{1,2}", "{7}", "{}", "{NULL}"), ("{a}", "1"), prefixed=False),
    Type("ta", "text[]", "array", ("{ab,x}", "{7}", "{}", "{NULL,ab}", '{"ab "}'), ("{", "x"), prefixed=False),
    Type("va", "varchar(3)[]", "array", ("{ab,x}", "{7}", "{}", '{"ab "}'), ("{abcdef}", "x"), prefixed=False),
    Type("tt", "timetz", "time", ("00:00:00+00", "12:30:00+00"), ("abc",), protected=False),
    Type("nm", "name", "text", _SHORT, protected=False),
    Type("oi", "oid", "number", ("1", "0", "7"), ("abc",), protected=False),
    Type("js", "jsonb", "bytes", ("1", "{}", '"ab"'), ("{",), protected=False),
)
BY_KEY = {t.key: t for t in TYPES}
PROTECTED = tuple(t for t in TYPES if t.protected)
# Protected without an index: shown, asked whether they are NULL, stored.
UNINDEXED = ("i4", "tx", "ch", "da", "n2")
FAMILIES = {f: tuple(t for t in TYPES if t.family == f) for f in dict.fromkeys(t.family for t in TYPES)}
