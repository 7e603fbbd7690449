"""The commands of ``phiproxy audit``: options and help, as ``cli`` has them for the others."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from phiproxy.cli_options import CONFIG, Config, Json, leave

audit_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The audit log: verify it, search it, hand it on.")

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory of the log's files, or a copy of it.")]
Keys = Annotated[
    list[str],
    typer.Option("--key", metavar="PUB", help="The public key of `audit key`, or a file with it; all where it has changed."),
]


def _audit() -> Any:
    return import_module("phiproxy.commands.audit")


@audit_app.command("key", epilog="Example: phiproxy audit key -c phiproxy.yaml > audit.pub")
def key(config: Config = CONFIG) -> None:
    """Print the public key of the configured log; keep it where who writes the log cannot change it."""
    leave(_audit().key(config))


@audit_app.command("verify", epilog="Example: phiproxy audit verify /var/lib/phiproxy/audit --key audit.pub")
def verify(
    directory: Directory,
    keys: Keys,
    as_of: Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="When the copy was made; default: now.")] = None,
    roots: Annotated[
        list[Path] | None, typer.Option("--tsa-root", metavar="FILE", help="Root certificates of the time stamp authority, in PEM.")
    ] = None,
    anchor_keys: Annotated[
        list[Path] | None, typer.Option("--anchor-key", metavar="FILE", help="The public key of KMS that signs anchors, in PEM.")
    ] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Say whether a log is what was signed, offline: the first record of each file that was changed, removed or reordered."""
    leave(_audit().verify(directory, keys, as_of, roots or [], anchor_keys or [], as_json=as_json))


Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="From this time on: 2026-11-27, or with a time of day.")]
Before = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this time.")]
WhoOption = Annotated[str | None, typer.Option("--who", metavar="NAME", help="A login, a role, or an end user behind one.")]
Column = Annotated[
    str | None, typer.Option("--column", metavar="NAME", help="A column or a table: public.patients.ssn, ssn, public.patients.")
]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", metavar="KIND", help="execution, refused, login, key …; more than one, if need be.")
]
Fingerprint = Annotated[str | None, typer.Option("--statement", metavar="FINGERPRINT", help="Of one statement's shape.")]
OpenEnded = Annotated[bool, typer.Option("--open-ended", help="Only those that may be about anybody, as `audit subject` counts.")]
Outcome = Annotated[str | None, typer.Option("--outcome", metavar="SQLSTATE", help="Or its beginning: 00000, 42, 28P01 …")]


@audit_app.command("search", epilog="Example: phiproxy audit search /var/lib/phiproxy/audit --who nurse --column ssn")
def search(  # noqa: PLR0913, PLR0917 - typer's way
    directory: Directory,
    since: Since = None,
    before: Before = None,
    who: WhoOption = None,
    column: Column = None,
    kinds: Kinds = None,
    fingerprint: Fingerprint = None,
    outcome: Outcome = None,
    open_ended: OpenEnded = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Print records, a line each, as they are (--json) or in words; whether they are genuine, verify says."""
    module = _audit()
    wanted = module.wanted(since, before, who, column, kinds, fingerprint, outcome, open_ended=open_ended)
    leave(module.search(directory, wanted, as_json=as_json))


@audit_app.command("export", epilog="Example: phiproxy audit export /var/lib/phiproxy/audit --format fhir > events.json")
def export(
    directory: Directory,
    form: Annotated[
        Literal["jsonl", "fhir", "atna"], typer.Option("--format", help="fhir: R4 AuditEvent; atna: DICOM audit messages.")
    ] = "jsonl",
    since: Since = None,
    before: Before = None,
    who: WhoOption = None,
    column: Column = None,
    kinds: Kinds = None,
) -> None:
    """Write records for other systems on standard output."""
    module = _audit()
    leave(module.export(directory, module.wanted(since, before, who, column, kinds, None, None), form))


@audit_app.command("review", epilog="Example: phiproxy audit review 5f0c2a77b1d4 --as officer --note 'ambulance, 3 patients'")
def review(
    name: Annotated[str | None, typer.Argument(metavar="GLASS", help="The one to sign off; without it they are listed.")] = None,
    reviewer: Annotated[
        str | None, typer.Option("--as", metavar="ROLE", help="The role of the database that reviews: it has to log in.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="What was found.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are signed off.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
    config: Config = CONFIG,
) -> None:
    """List what was seen for a reason that nobody has signed off yet, or sign one off as a second person."""
    module = import_module("phiproxy.commands.audit_review")
    leave(module.review(config, name, reviewer, note, everything=everything, as_json=as_json))


@audit_app.command("subject", epilog="Example: phiproxy audit subject 4711 --from 2020-11-27 -c phiproxy.yaml")
def subject(
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Whom the rows are about: a value of a policy's subject column.")],
    config: Config = CONFIG,
    directory: Annotated[
        Path | None, typer.Option("--directory", metavar="DIR", help="Of the log or a copy of it; default: the configured one.")
    ] = None,
    table: Annotated[str | None, typer.Option("--table", metavar="NAME", help="Only by this table or subject column.")] = None,
    form: Annotated[
        Literal["text", "jsonl", "fhir", "atna"], typer.Option("--format", help="As `audit export` writes; text: for people.")
    ] = "text",
    since: Since = None,
    before: Before = None,
    who: WhoOption = None,
) -> None:
    """Write the records about one person: who has read, searched and changed what of theirs. It needs the audit key."""
    module = import_module("phiproxy.commands.audit_subject")
    asked = module.Asked(value, table, _audit().wanted(since, before, who, None, ["execution"], None, None))
    leave(module.subject(config, directory, asked, form))


@audit_app.command("prune", epilog="Example: phiproxy audit prune /var/lib/phiproxy/audit --before 2020-11-27")
def prune(
    directory: Directory,
    before: Annotated[str, typer.Option("--before", metavar="TIME", help="Files that were closed before this.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,  # noqa: FBT002
) -> None:
    """Remove old records; the signed heads of their files stay. HIPAA asks for six years (45 CFR 164.316(b)(2)(i))."""
    leave(_audit().prune(directory, before, dry_run=dry_run))
