"""Runs cases on both twins, many at once, and says what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Self

from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.matrix import schema
from tests.matrix.axes import TYPES
from tests.matrix.cases import DECLARABLE, Case, arguments, declared_name, drawn
from tests.matrix.dialogue import ConnectionEnded, Line, Reply
from tests.matrix.draws import Draw
from tests.matrix.verdicts import FAULTS, Verdict, documented, failed, verdict
from tests.session.frames import SYNC, bind, close, describe, execute, parse, query

# So many statements are under way at once: neither side waits for the other, and no buffer is filled by either.
AT_ONCE = 20
STATE = "SELECT id, {column} FROM m ORDER BY id; SELECT id FROM p ORDER BY id"


@dataclass(frozen=True)
class Result:
    """A case and what became of it."""

    case: Case
    verdict: Verdict
    proxied: tuple[Reply, ...] = ()
    plain: tuple[Reply, ...] = ()

    @property
    def sqlstates(self) -> tuple[str | None, str | None]:
        """The SQLSTATEs of the proxy and of PostgreSQL."""
        found, expected = failed(self.proxied), failed(self.plain)
        return (found.sqlstate if found else None, expected.sqlstate if expected else None)

    def told(self) -> str:
        """Return the statement and what was said to it."""
        said = [_said(replies) for replies in (self.proxied, self.plain)]
        return f"{self.verdict}: {self.case.described()}\n    proxy: {said[0]}\n    plain: {said[1]}"


def _said(replies: Sequence[Reply]) -> str:
    error = failed(replies)
    if error is not None:
        return f"{error.sqlstate} {error.message}"
    last = next((r for r in reversed(replies) if r.fields), replies[-1] if replies else None)
    if last is None:
        return "the connection ended"
    types = [f"{f.name.decode()}:{f.type_oid}/{f.typmod}" for f in last.fields]
    shown = b" ".join(row[2:].replace(b"\0\0\0", b".") for row in last.rows[:12])
    return f"{[t[:-1].decode() for t in last.tags]} {types} {shown!r}"


@dataclass
class Script:
    """The messages of a case: which replies are those to the statement, and which say what the tables hold after it."""

    steps: list[bytes] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)

    def add(self, step: bytes, into: list[int] | None = None) -> None:
        """Append what one ReadyForQuery answers."""
        if into is not None:
            into.append(len(self.steps))
        self.steps.append(step)


class Runner:
    """The two connections, and what is known of the types."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lines = [Line(site.plain_dsn), Line(site.proxy_dsn)]
        self._zone = ""
        self.version = self._lines[0].version
        self._oids: dict[str, int] = {}
        self._binaries: dict[tuple[str, str], bytes] = {}
        self._learn()

    def close(self) -> None:
        """Close both connections."""
        for line in self._lines:
            line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _learn(self) -> None:
        """Ask the server for the types' OIDs and their values in binary."""
        plain = self._lines[0]
        for key in DECLARABLE:
            reply = plain.ask(f"SELECT '{declared_name(key)}'::regtype::oid")
            self._oids[key] = int(reply.rows[0][6:])
        pairs = [(t, v) for t in TYPES for v in t.values]
        for type_, value in pairs:
            text = value.encode()
            plain.say([parse(f"SELECT $1::{type_.base}") + bind(text, results=(1,)) + execute() + SYNC])
            (reply,) = plain.replies(1)
            assert reply.sqlstate is None, (type_, value, reply)
            self._binaries[type_.key, value] = reply.rows[0][6:]

    def script(self, case: Case) -> Script:
        """Return the messages of a case."""
        made = Script()
        if case.null_equals:
            made.add(query("SET transform_null_equals = on"))
        if case.writes:
            made.add(query("BEGIN"))
        self._ask(case, made)
        if case.writes:
            column = f"{'u' if f'u_{case.left}' in case.statement else 'c'}_{case.left}"
            made.add(query(STATE.format(column=column)), made.after)
            made.add(query("ROLLBACK"))
        if case.way == "execute":
            made.add(query("DEALLOCATE ALL"))
        if case.null_equals:
            made.add(query("RESET transform_null_equals"))
        return made

    def _ask(self, case: Case, made: Script) -> None:
        if case.way == "simple":
            made.add(query(case.statement), made.asked)
            return
        if case.way == "execute":
            names, given = arguments(case.parameters)
            made.add(query(f"PREPARE q ({names}) AS {case.statement}"), made.asked)
            made.add(query(f"EXECUTE q ({given})"), made.asked)
            return
        binaries = [self._binaries.get((p.of, p.value or "")) if p.binary else None for p in case.parameters]
        values = [None if p.value is None else b or p.value.encode() for p, b in zip(case.parameters, binaries, strict=True)]
        formats = [int(binary is not None) for binary in binaries]
        oids = [self._oids.get(p.declared, 0) for p in case.parameters]
        name = "q" if case.way == "named" else ""
        run = bind(*values, statement=name, formats=formats, results=(int(case.binary_results),)) + describe() + execute() + SYNC
        prepared = parse(case.statement, name, oids)
        if name:
            made.add(prepared + describe(name, "S") + SYNC, made.asked)
            made.add(run, made.asked)
            made.add(close(name) + SYNC)
        else:
            made.add(prepared + run, made.asked)

    def run(self, cases: Iterable[Case]) -> Iterator[Result]:
        """Run cases; what a server of this version has not is left out."""
        pending = iter(cases)
        while batch := list(islice(pending, AT_ONCE)):
            yield from self._batch([c for c in batch if c.since <= self.version])

    def one(self, case: Case) -> Result:
        """Run one case."""
        (result,) = self._batch([case])
        return result

    def _batch(self, batch: Sequence[Case]) -> list[Result]:
        if not batch:
            return []
        assert len({c.zone for c in batch}) == 1, "one batch, one time zone"
        self._in_zone(batch[0].zone)
        scripts = [self.script(c) for c in batch]
        steps = [step for s in scripts for step in s.steps]
        plain, proxied = self._lines
        try:
            for line in (proxied, plain):
                line.say(steps)
            expected, found = plain.replies(len(steps)), proxied.replies(len(steps))
        except (ConnectionEnded, OSError):
            self._again()
            if len(batch) == 1:
                return [Result(batch[0], "false error")]
            return [self.one(c) for c in batch]
        results, start = [], 0
        for case, script in zip(batch, scripts, strict=True):
            here = [side[start : start + len(script.steps)] for side in (found, expected)]
            asked = [tuple(side[n] for n in script.asked) for side in here]
            after = [tuple(side[n] for n in script.after) for side in here]
            results.append(Result(case, verdict(*asked, *after, merges=case.merges, blanks=case.left in ("ch", "c3")), *asked))
            start += len(script.steps)
        return [self._excused(r) if r.verdict == "wrong type" else r for r in results]

    def _excused(self, result: Result) -> Result:
        """Return a result whose types are those that PostgreSQL tells before it plans as equal.

        Afterwards it tells of a length what the plan happens to know: an arm of UNION or COALESCE that is not reached is left out.
        """
        case, plain = result.case, self._lines[0]
        oids = [self._oids.get(p.declared, 0) for p in case.parameters]
        plain.say([parse(case.statement, "", oids) + describe("", "S") + SYNC])
        (described,) = plain.replies(1)
        told = [f.typmod for f in described.fields]
        same = all(
            a.parameters == b.parameters
            and [f._replace(typmod=-1) for f in a.fields] == [f._replace(typmod=-1) for f in b.fields]
            and [f.typmod for f in a.fields] in (told, [f.typmod for f in b.fields])
            for a, b in zip(result.proxied, result.plain, strict=True)
        )
        return replace(result, verdict="equal") if same else result

    def _in_zone(self, zone: str) -> None:
        if zone != self._zone:
            for line in self._lines:
                assert line.ask(f"SET TimeZone = '{zone}'").sqlstate is None
            self._zone = zone

    def _again(self) -> None:
        """Connect again: which of several statements ended the connection is found out one by one."""
        self.close()
        if not self._site.proxy.running:
            self._site.proxy.start()
        self._lines = [Line(self._site.plain_dsn), Line(self._site.proxy_dsn)]
        self._zone = ""

    def simplest(self, result: Result, attempts: int = 150) -> Result:
        """Return a simpler case of the same verdict: choices are left out or made smaller as long as it stays."""
        best, tried = result, 0
        progress = True
        while progress and tried < attempts:
            progress = False
            for position in reversed(range(len(best.case.choices))):
                if position >= len(best.case.choices):
                    continue
                for smaller in dict.fromkeys((0, best.case.choices[position] // 2, best.case.choices[position] - 1)):
                    if not 0 <= smaller < best.case.choices[position] or tried >= attempts:
                        continue
                    tried += 1
                    choices = [*best.case.choices]
                    choices[position] = smaller
                    candidate = drawn(Draw(choices=choices), best.case.zone)
                    if candidate.since <= self.version and len(candidate.choices) <= len(best.case.choices):
                        again = self.one(candidate)
                        if again.verdict == result.verdict and again.sqlstates == result.sqlstates:
                            best, progress = again, True
                            break
        return best


@dataclass
class Tally:
    """What became of many cases."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    faults: list[Result] = field(default_factory=list)
    undocumented: list[Result] = field(default_factory=list)
    others: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    examples: dict[tuple[str | None, str | None], Result] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Count one."""
        self.counts[result.verdict] += 1
        if result.verdict in FAULTS:
            self.faults.append(result)
        if result.verdict == "another SQLSTATE":
            self.others[result.sqlstates] += 1
            if not documented(*result.sqlstates):
                self.undocumented.append(result)
            self.examples.setdefault(result.sqlstates, result)


@contextmanager
def matrix_site(server: PostgresServer, directory: Path) -> Iterator[Site]:
    """Open the matrix's site with its rows in both databases, written each by its own way."""
    with open_site(server, directory, policy=schema.policy(), ddl=schema.DDL, types=schema.OWN) as site:
        for dsn in (site.plain_dsn, site.proxy_dsn):
            line = Line(dsn)
            for statement in schema.inserts():
                reply = line.ask(statement)
                assert reply.sqlstate is None, (statement, reply.message, reply.hint)
            line.close()
        site.tap.reset()
        yield site


def oracle_of(site: Site) -> LeakOracle:
    """Return the oracle that looks for what is planted in the rows."""
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
    oracle.planted = list(schema.PLANTED.values())
    return oracle
