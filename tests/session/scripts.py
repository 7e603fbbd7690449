"""Random scripts of a client, as strategies."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.session.frames import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse,
    query,
    raw,
)
from tests.session.screenplay import SECRET
from tests.session.statements import COPY_FROM, LO_CREAT, OWN_QUESTION, OWN_REFUSAL, OWN_SYNTAX_ERROR, STATEMENTS

OWN = {OWN_REFUSAL, OWN_SYNTAX_ERROR, OWN_QUESTION}
PATIENT = {"SET search_path TO public", "SELECT city, ssn FROM patients"}
TEXTS = sorted(STATEMENTS.keys() - OWN - PATIENT - {COPY_FROM})
SIMPLE = [text for text in TEXTS if "$" not in text]
EXITS = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a"]

names = st.sampled_from(["", "s"])
portals = st.sampled_from(["", "p"])
texts = st.one_of(st.sampled_from(TEXTS), st.sampled_from(EXITS))
formats = st.sampled_from([(), (0,), (1,)])
values = st.sampled_from([(), (b"x",)])
limits = st.sampled_from([0, 0, 1, 2])


@st.composite
def a_bind(draw: st.DrawFn) -> bytes:
    statement = draw(st.sampled_from(["", "", "s", "q"]))
    return bind(*draw(values), statement=statement, portal=draw(portals), results=draw(formats))


@st.composite
def a_whole_statement(draw: st.DrawFn, texts: st.SearchStrategy[str] = texts) -> bytes:
    """Parse to Execute as drivers send it, with the right number of values."""
    text, portal = draw(texts), draw(portals)
    value = SECRET if "ssn" in text else b"x"
    count = 1 if "upper(" in text else text.count("$")
    said = [parse(text), bind(*[value] * count, portal=portal, results=draw(formats))]
    asked = [describe(portal)] if draw(st.booleans()) else []
    return b"".join([*said, *asked, execute(portal, draw(limits))])


@st.composite
def a_script(draw: st.DrawFn) -> bytes:
    parts = draw(st.lists(st.sampled_from([*SIMPLE, *EXITS]), min_size=1, max_size=3))
    return query("; ".join(parts))


@st.composite
def a_copy(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from([COPY_DONE, copy_fail("no")]))
    data = [copy_data(b"1\n")] * draw(st.integers(0, 2))
    if draw(st.booleans()):
        return b"".join([query(COPY_FROM), *data, end])
    early = [SYNC] if draw(st.booleans()) else []
    begun = [SYNC, close("copy"), parse(COPY_FROM, "copy"), bind(statement="copy", portal="copy"), execute("copy")]
    return b"".join([*begun, *early, *data, end, SYNC])


function_calls = st.sampled_from([function_call(LO_CREAT, b"\xff" * 4), function_call(2077, b"search_path", b"\0")])
malformed = st.builds(raw, st.sampled_from([bytes((tag,)) for tag in b"PBDECQF"]), st.just(b"\xff" + SECRET[:2]))
messages = st.one_of(
    function_calls,
    malformed,
    st.builds(parse, texts, names),
    a_bind(),
    st.builds(execute, portals, limits),
    st.builds(describe, portals),
    st.builds(describe, st.sampled_from(["", "s", "q"]), st.just("S")),
    st.builds(close, st.sampled_from(["", "s", "q"])),
    st.builds(close, portals, st.just("P")),
    st.just(SYNC),
    st.just(FLUSH),
    a_whole_statement(),
    a_whole_statement(),
    a_script(),
    a_copy(),
)
impatient = st.lists(messages, max_size=14).map(lambda said: [*said, SYNC])
patient = st.lists(
    st.one_of(messages, st.sampled_from([SYNC + query(text) for text in sorted(PATIENT)]), st.just(SYNC + query("ROLLBACK"))),
    max_size=12,
).map(lambda said: [*said, SYNC])
