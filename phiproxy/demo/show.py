"""What the demo prints: the same query from both sides, searches, what the engine adds, a refusal, the line for psql."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psycopg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from phiproxy.demo.existing import STATEMENTS

QUERY = (
    "SELECT p.id, p.full_name, p.date_of_birth, v.diagnosis, p.city"
    " FROM patients p JOIN visits v ON v.patient_id = p.id ORDER BY v.id LIMIT 4"
)
# So that the two tables of an 80 column terminal look alike.
_WIDTHS = {"id": 2, "full_name": 16, "date_of_birth": 15, "diagnosis": 18, "city": 10}
BORN = "SELECT full_name, date_of_birth FROM patients WHERE extract(year FROM date_of_birth) = 1980"
# No index answers these: the proxy's engine does, over rows that it was given opened.
COMPUTED = (
    "SELECT full_name, city FROM patients ORDER BY full_name LIMIT 5",
    "SELECT full_name, city FROM patients WHERE full_name ILIKE '%son%' ORDER BY id LIMIT 3",
)
END_USER = "dr.quinn"
REFUSED = "UPDATE patients SET city = full_name"


class Show:
    """The demo's voice."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    def step(self, text: str) -> None:
        """Say what is being done or has been done."""
        self._console.print(f"[dim]·[/dim] {escape(text)}")

    def waiting(self) -> None:
        """Say that it serves now."""
        self._console.print("\nServing until [bold]Ctrl-C[/bold].")

    def everything(self, through: str, direct: str, ssn: str, config: Path) -> None:
        """Show it: through the proxy, straight from the database, searches, a refusal, and how to go on."""
        with psycopg.connect(through, autocommit=True) as app, psycopg.connect(direct, autocommit=True) as thief:
            app.execute(f"SET phiproxy.end_user = '{END_USER}'")
            self._heading(QUERY)
            self._rows("through the proxy", app)
            self._rows("straight from the database", thief)
            self._search(app, ssn)
            self._born(app)
            self._computed(app)
            self._refusal(app)
        command = sys.argv[0] if sys.argv[0].endswith("phiproxy") else "phiproxy"
        self._console.print("\n[bold]Try it[/bold], while the demo runs (without --once)")
        self._plain(f'  psql "{through}"')
        self._plain(f"    {BORN};")
        self._plain(f"  {command} explain -c {config} 'SELECT * FROM patients WHERE ssn = $1'")
        self._plain(f"  {command} explain -c {config} 'SELECT * FROM patients ORDER BY full_name'")
        self._plain(f"  {command} check -c {config}")

    def audited(self, records: Iterable[str], report: Path) -> None:
        """Show the last records of the demo's own session, and say where the report is."""
        self._console.print(f"\n[bold]The audit log[/bold] of this session, for {END_USER}, before each result was shown")
        for line in records:
            self._plain(f"  {line}")
        self._console.print("[dim]Signed, and proven now: nothing was changed, removed or reordered.[/dim]")
        self._plain(f"  report: {report}")

    def plaintext(self, direct: str) -> None:
        """Show what is in the tables before."""
        with psycopg.connect(direct, autocommit=True) as thief:
            self._heading(QUERY)
            self._rows("straight from the database, before", thief)

    def report(self, read: Callable[[], str]) -> None:
        """Show what was observed of an application's statements, once it is there."""
        text = ""
        for _ in range(40):
            text = read()
            if text.count("\n") > len(STATEMENTS):
                break
            time.sleep(0.25)
        self._console.print("\n[bold]phiproxy observe report[/bold]")
        for line in text.rstrip().splitlines():
            self._console.print(escape(line), soft_wrap=True)

    def encrypted(self, told: str, statements: int, slowest: float) -> None:
        """Show how it went."""
        self._console.print("\n[bold]phiproxy encrypt[/bold]")
        for line in told.rstrip().splitlines():
            self._console.print(escape(line), soft_wrap=True)
        longest = f"{slowest * 1000:.0f} ms"
        self.step(f"the application sent {statements} statements meanwhile; none failed, and the slowest took {longest}")

    def _plain(self, text: str) -> None:
        # A line that is to be pasted is never wrapped.
        self._console.print(escape(text), soft_wrap=True)

    def _heading(self, statement: str) -> None:
        self._console.print(f"\n[bold]{escape(statement)}[/bold]")

    def _rows(self, title: str, conn: psycopg.Connection) -> None:
        cursor = conn.execute(QUERY)
        table = Table(title=title, title_justify="left", title_style="italic")
        for column in cursor.description or ():
            table.add_column(column.name, no_wrap=True, width=_WIDTHS.get(column.name))
        for row in cursor:
            table.add_row(*(_shown(value) for value in row))
        self._console.print(table)

    def _search(self, app: psycopg.Connection, ssn: str) -> None:
        self._heading(f"SELECT full_name, city FROM patients WHERE ssn = '{ssn}'")
        rows = app.execute("SELECT full_name, city FROM patients WHERE ssn = %s", (ssn,)).fetchall()
        for row in rows:
            self._console.print(f"  found: {escape(', '.join(row))}")
        self._console.print("[dim]EXPLAIN of the same, as the server sees it:[/dim]")
        plan = app.execute("EXPLAIN (COSTS off) SELECT full_name, city FROM patients WHERE ssn = %s", (ssn,)).fetchall()
        for (line,) in plan:
            self._console.print(f"  {escape(line)}", soft_wrap=True)

    def _born(self, app: psycopg.Connection) -> None:
        statement = f"{BORN} ORDER BY id LIMIT 2"
        self._heading(statement)
        for name, born in app.execute(statement):
            self._console.print(f"  found: {escape(name)}, {born}")

    def _computed(self, app: psycopg.Connection) -> None:
        for statement in COMPUTED:
            self._heading(statement)
            for name, city in app.execute(statement.encode()):
                self._console.print(f"  found: {escape(name)}, {escape(city)}")
        self._console.print("[dim]Computed beside the proxy: the server sent envelopes, and knows no name and no pattern.[/dim]")

    def _refusal(self, app: psycopg.Connection) -> None:
        self._heading(REFUSED)
        try:
            app.execute(REFUSED)
        except psycopg.Error as error:
            self._console.print(f"  [red]{error.sqlstate}[/red] {escape(error.diag.message_primary or '')}", soft_wrap=True)
            self._console.print(f"  hint: {escape(error.diag.message_hint or '')}", soft_wrap=True)
        else:
            raise AssertionError("a statement that must be refused was answered")


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"\\x{value[:3].hex()}… {len(value)} B"
    return escape(str(value))
