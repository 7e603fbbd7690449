"""Character sets: what Python's codecs say, the server's tables say too; malformed bytes are told from those of no character."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable

import psycopg
import pytest

from phiproxy import long_values
from phiproxy.errors import InvalidEncoding, UntranslatableCharacter
from phiproxy.wire import encoding_tables, encodings
from phiproxy.wire.encoding_differences import CODECS, shipped
from phiproxy.wire.encodings import ENCODINGS, UTF8, Encoding, encoding_of, of_binary
from tests.harness.server import PostgresServer

OTHERS = [encoding for encoding in ENCODINGS.values() if encoding is not UTF8]
TABLED = tuple(CODECS)
MAPPED = tuple(encoding_tables.UNITS)
MULTIBYTE = ("EUC_CN", "GBK", "GB18030", *TABLED, *MAPPED)
EVERYTHING = bool(os.environ.get("PHIPROXY_EXPLORE"))
CONVERT = """\
CREATE FUNCTION pg_temp.encoded(code int, name text) RETURNS bytea LANGUAGE plpgsql AS
  $$ BEGIN RETURN convert_to(chr(code), name); EXCEPTION WHEN untranslatable_character THEN RETURN NULL; END $$;
CREATE FUNCTION pg_temp.decoded(bytes bytea, name text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN RETURN convert_from(bytes, name); EXCEPTION WHEN others THEN RETURN SQLSTATE || '!'; END $$
"""


WRITTEN = """\
CREATE FUNCTION pg_temp.written(t text, name text) RETURNS bytea LANGUAGE plpgsql AS
  $$ BEGIN RETURN convert_to(t, name); EXCEPTION WHEN untranslatable_character THEN RETURN NULL; END $$
"""


def decoded(encoding: Encoding, text: bytes) -> str:
    try:
        return encoding.to_utf8(text).decode()
    except (InvalidEncoding, UntranslatableCharacter) as error:
        return error.sqlstate + "!"


def encoded(encoding: Encoding, code: int) -> bytes | None:
    try:
        return encoding.from_utf8(chr(code).encode())
    except UntranslatableCharacter:
        return None


def sequences(encoding: Encoding) -> Iterable[bytes]:
    yield from (bytes([byte]) for byte in range(1, 256))
    if encoding.name in MULTIBYTE:
        second = range(1, 256) if EVERYTHING else (1, 0x30, 0x40, 0x7E, 0x7F, 0x80, 0xA1, 0xFE, 0xFF)
        yield from map(bytes, itertools.product(range(128, 256), second))
    if encoding.name in TABLED:
        yield from shipped(encoding.name).read
        yield from map(bytes.fromhex, ("8fa2b7", "8fa2", "8ea1a1", "8fa1a1a1", "5c8f5c"))
    if encoding.name in MAPPED:
        known = list(encoding_tables.shipped(encoding.name).read)
        yield from known if EVERYTHING else known[::7]
        yield from (s for s in known if len(encoding_tables.shipped(encoding.name).read[s]) > 1)
        yield from map(
            bytes.fromhex, ("8ea2", "8ea2a1", "8ea2a1a0", "8ea8a1a1", "8eafa1a1", "8fa2b7", "8fa2", "8fffa1", "8ea1a1", "5c8f5c")
        )
    if encoding.name == "GB18030":
        yield from map(bytes.fromhex, ("81308130", "81308140", "8431a439", "e3329a35", "e3329a36", "8130"))


def codes(encoding: Encoding) -> list[int]:
    """Return all code points where everything is explored; else those that one byte can say, and some around them."""
    if EVERYTHING:
        last = 0x110000 if encoding.name == "GB18030" else 0x30000 if encoding.name in MAPPED else 0x10000
        return [code for code in range(1, last) if not 0xD800 <= code < 0xE000]
    single = () if encoding.name in MULTIBYTE else (decoded(encoding, bytes([b])) for b in range(1, 256))
    readable = {ord(text) for text in single if len(text) == 1}
    written = list(shipped(encoding.name).write) if encoding.name in TABLED else []
    if encoding.name in MAPPED:
        written = [character for character in encoding_tables.shipped(encoding.name).write if len(character) == 1][::7]
    differing = map(ord, written)
    return sorted({*range(1, 0x200), *range(0x2010, 0x2030), 0x20AC, 0xFFFD, 0x10FFFF, *readable, *differing})


@pytest.mark.slow
def test_the_server_converts_alike(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as conn:
        conn.execute(CONVERT)
        for encoding in OTHERS:
            texts = list(sequences(encoding))
            query = "SELECT b, pg_temp.decoded(b, %s) FROM unnest(%s::bytea[]) b"
            for text, expected in conn.execute(query, (encoding.name, texts), binary=True):
                assert decoded(encoding, bytes(text)) == expected, (encoding.name, bytes(text))
            query = "SELECT i, pg_temp.encoded(i, %s) FROM unnest(%s::int[]) i"
            for code, bytes_ in conn.execute(query, (encoding.name, codes(encoding)), binary=True):
                assert encoded(encoding, code) == (None if bytes_ is None else bytes(bytes_)), (encoding.name, hex(code))


@pytest.mark.parametrize("name", ["EUC_JIS_2004", "SHIFT_JIS_2004"])
def test_characters_of_two_code_points(postgres_server: PostgresServer, name: str) -> None:
    pairs = [character for character in encoding_tables.shipped(name).write if len(character) > 1]
    assert len(pairs) == 25
    texts = [
        f"{before}{pair}{behind}" for pair in pairs for before in ("", "か", pair[0]) for behind in ("", "か", pair[0], pair[1:])
    ]
    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as conn:
        conn.execute(WRITTEN)
        for text, expected in conn.execute(
            "SELECT t, pg_temp.written(t, %s) FROM unnest(%s::text[]) t", (name, texts), binary=True
        ):
            try:
                found: bytes | None = ENCODINGS[name].from_utf8(text.encode())
            except UntranslatableCharacter:
                found = None
            assert found == expected, ascii(text)
            if found is not None:
                assert ENCODINGS[name].to_utf8(found) == text.encode()


@pytest.mark.parametrize("encoding", OTHERS, ids=lambda e: e.name)
def test_what_is_read_is_written_the_same(encoding: Encoding) -> None:
    if encoding.name in (*TABLED, *MAPPED):
        return  # some characters have two sequences
    for text in sequences(encoding):
        if not (read := decoded(encoding, text)).endswith("!") or text == b"!":
            assert encoding.from_utf8(read.encode()) == text


@pytest.mark.parametrize("name", ["LATIN1", "WIN1252", "GB18030", "SJIS", "EUC_JP", "EUC_JIS_2004"])
def test_long_texts_are_converted_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = ENCODINGS[name]
    for text in ("aä" * 9, "日本語のテキスト" * 3, "äö" + "x" * 7 + "ü"):
        try:
            whole = encoding.from_utf8(text.encode())
        except UntranslatableCharacter:
            continue
        with monkeypatch.context() as patch:
            for module in (long_values, encodings):
                patch.setattr(module, "LONG_VALUE", 2)
                patch.setattr(module, "PIECE", 4)
            assert encoding.from_utf8(text.encode()) == whole
            assert encoding.to_utf8(whole) == text.encode()


def test_utf8_stays_as_it_is() -> None:
    assert UTF8.to_utf8(b"\xff") == UTF8.from_utf8(b"\xff") == UTF8.shown(b"\xff") == UTF8.read(b"\xff") == b"\xff"
    assert UTF8.reader()(b"\xff", True) == b"\xff"


def test_a_character_may_be_cut_between_chunks() -> None:
    read = ENCODINGS["GB18030"].reader()
    assert read(b"a\xb0", False) + read(b"\xa1\x81\x30", False) + read(b"\x81\x30", True) == "a啊\x80".encode()
    with pytest.raises(InvalidEncoding):
        read(b"\xb0", True)


@pytest.mark.parametrize("name", [*TABLED, *MAPPED])
def test_characters_of_tables_may_be_cut_too(name: str) -> None:
    text = ENCODINGS[name].from_utf8("a字b".encode())
    for cut in range(len(text)):
        read = ENCODINGS[name].reader()
        assert read(text[:cut], False) + read(text[cut:], False) + read(b"", True) == ENCODINGS[name].to_utf8(text)
    read = ENCODINGS[name].reader()
    with pytest.raises(InvalidEncoding):
        read(text[:2], False) + read(b"", True)
    with pytest.raises(InvalidEncoding):
        ENCODINGS[name].reader()(b"\xff\x00\x00\x00", False)
    assert ENCODINGS[name].shown("a\u0e01".encode()) == b"a?"
    assert ENCODINGS[name].read(b"a\xff").startswith(b"a")


def test_what_cannot_be_said_is_said_as_far_as_it_can() -> None:
    latin = ENCODINGS["LATIN1"]
    assert latin.shown("né 啊".encode()) == b"n\xe9 ?"
    assert latin.read(b"n\xe9") == "né".encode()
    assert ENCODINGS["EUC_CN"].read(b"\xff") == "\ufffd".encode()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("utf-8", "UTF8"),
        ("Unicode", "UTF8"),
        ("iso-8859-15", "LATIN9"),
        ("Windows_1252", "WIN1252"),
        ("latin 1", "LATIN1"),
        ("Shift-JIS", "SJIS"),
        ("windows-949", "UHC"),
        ("euc-jp", "EUC_JP"),
        ("Shift-JIS 2004", "SHIFT_JIS_2004"),
        ("euc_tw", "EUC_TW"),
    ],
)
def test_names_are_the_servers(name: str, found: str) -> None:
    assert encoding_of(name) is ENCODINGS[found]


@pytest.mark.parametrize("name", ["", "SQL_ASCII", "MULE_INTERNAL", "utf16", "é"])
def test_others_are_none(name: str) -> None:
    assert encoding_of(name) is None


def test_texts_in_binary_form() -> None:
    latin = ENCODINGS["LATIN1"].to_utf8
    element = (1).to_bytes(4, "big") + b"\xe9"
    head = b"".join(n.to_bytes(4, "big") for n in (1, 0, 25, 2, 1))
    null = b"\xff\xff\xff\xff"
    made = head + (2).to_bytes(4, "big") + "é".encode() + null
    assert of_binary(b"\xe9", 25, latin) == of_binary(b"\xe9", 99999, latin) == "é".encode()
    assert of_binary(head + element + null, 1009, latin) == of_binary(head + element + null, 99999, latin) == made
    assert of_binary(b"\xe9\0\0\0", 23, latin) == b"\xe9\0\0\0"
    integers = head[:8] + (23).to_bytes(4, "big") + head[12:] + element
    assert of_binary(integers, 1009, latin) == integers
    assert of_binary(head + element[:-1], 1009, latin) == head + element[:-1]


def test_jsonb_has_its_version_before_its_text() -> None:
    latin = ENCODINGS["LATIN1"].to_utf8
    own, made = b'\x01"\xe9"', '\x01"é"'.encode()
    assert of_binary(own, 3802, latin) == made
    head = b"".join(n.to_bytes(4, "big") for n in (1, 0, 3802, 1, 1))
    array = head + len(own).to_bytes(4, "big") + own
    assert of_binary(array, 3807, latin) == head + len(made).to_bytes(4, "big") + made
    assert of_binary(own, 114, latin) == made  # of json it would be a character
