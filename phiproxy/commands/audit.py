"""``phiproxy audit``: verify a log offline, and look into it."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from phiproxy.audit.atna import audit_message
from phiproxy.audit.checkpoints import Verifier
from phiproxy.audit.fhir import audit_event, bundle
from phiproxy.audit.looked_at import Fault
from phiproxy.audit.prune import prunable
from phiproxy.audit.prune import prune as remove
from phiproxy.audit.records import canonical
from phiproxy.audit.search import Record, Wanted, found, in_words
from phiproxy.audit.verify import Verified
from phiproxy.audit.verify import verify as verify_log
from phiproxy.audit.verify_anchors import Witnessed
from phiproxy.audit_root import audit_keys
from phiproxy.commands.command_context import load, print_json
from phiproxy.errors import ConfigError


async def key(config: Path) -> int:
    """Print the public key that the configured log is verified with."""
    configuration = load(config)
    keys = await audit_keys(configuration.settings, configuration.policies)
    sys.stdout.write(keys.signer.verifier.text + "\n")
    return 0


def read_time(text: str) -> datetime:
    """Read a date or time of ISO 8601, of UTC where it says no zone; ConfigError."""
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"{text!r} is not a time", hint="write 2026-11-27 or 2026-11-27T18:45:00+01:00") from None


def read_period(since: str | None, before: str | None) -> tuple[datetime | None, datetime | None]:
    """Read from when on and before when; ConfigError, also for a period in which nothing can be, where all would look well."""
    first, last = (read_time(time) if time is not None else None for time in (since, before))
    if first is not None and last is not None and first >= last:
        raise ConfigError(f"--from {since} is not before --to {before}")
    return first, last


def read_keys(keys: Sequence[str]) -> list[Verifier]:
    """Read public keys, or the files that hold them; ConfigError."""
    texts: list[str] = []
    for each in keys:
        path = Path(each)
        if "+" not in each or path.is_file():
            try:
                found = path.read_text(encoding="utf-8").split()
            except UnicodeDecodeError:
                found = []
            if not found:
                raise ConfigError(f"{each} holds no public key", hint="`phiproxy audit key` prints it")
            texts += found
        else:
            texts.append(each)
    return [Verifier.read(text) for text in texts]


def verify(
    directory: Path, keys: Sequence[str], as_of: str | None, roots: Sequence[Path], anchor_keys: Sequence[Path], *, as_json: bool
) -> int:
    """Verify a log, and say what is wrong with it, the first fault of each file first; 1 when something is."""
    witnessed = Witnessed.read(roots, anchor_keys)
    verified = verify_log(directory, read_keys(keys), read_time(as_of) if as_of is not None else None, witnessed)
    if as_json:
        print_json({**asdict(verified), "genuine": not verified.faults})
    else:
        _print(verified)
    return 1 if verified.faults else 0


def wanted(
    since: str | None,
    before: str | None,
    who: str | None,
    column: str | None,
    kinds: Sequence[str] | None,
    fingerprint: str | None,
    outcome: str | None,
    *,
    open_ended: bool = False,
) -> Wanted:
    """Return what the options of a search ask for; ConfigError for a time that is none."""
    first, last = read_period(since, before)
    return Wanted(first, last, who, column, frozenset(kinds or ()), fingerprint, outcome, open_ended)


def search(directory: Path, asked: Wanted, *, as_json: bool) -> int:
    """Print the records that are wanted, a line each: for people, or as they are; 1 when there is none."""
    anything = False
    for record in found(directory, asked):
        anything = True
        sys.stdout.write((canonical(record).decode() if as_json else in_words(record)) + "\n")
    if not anything:
        sys.stderr.write("phiproxy: no record is of that kind\n")
    return 0 if anything else 1


def export(directory: Path, asked: Wanted, form: str) -> int:
    """Write records for other systems: ``jsonl``, a FHIR Bundle, or a list of DICOM audit messages."""
    write_records(found(directory, asked), form)
    return 0


def write_records(chosen: Iterable[Record], form: str, subject: str | None = None) -> None:
    """Write records on standard output in a form of ``export``; ``subject`` is whom all of them are about, where that is known."""
    out = sys.stdout
    if form == "jsonl":
        for record in chosen:
            out.write(canonical(record).decode() + "\n")
    elif form == "fhir":
        print_json(bundle([audit_event(record, subject) for record in chosen]))
    else:
        out.write('<?xml version="1.0" encoding="UTF-8"?>\n<AuditMessages>\n')
        for record in chosen:
            out.write(audit_message(record, subject).decode() + "\n")
        out.write("</AuditMessages>\n")


def prune(directory: Path, before: str, *, dry_run: bool) -> int:
    """Remove the records of files that were closed before a time; their signed heads stay."""
    files = prunable(directory, read_time(before))
    for file in files:
        sys.stdout.write(f"{'would remove' if dry_run else 'removed'} {file.stem}\n")
    if not dry_run:
        remove(files)
    sys.stdout.write(f"{len(files)} files; their signed heads stay\n")
    return 0


def _print(verified: Verified) -> None:
    out = sys.stdout.write
    for what, told in (("WRONG", verified.faults), ("note", verified.notes)):
        for each in told:
            out(f"{what}: {_where(each)}: {each.text}\n")
    until = verified.until.strftime("%Y-%m-%d %H:%M:%S UTC") if verified.until is not None else "never"
    out(f"{verified.files} files, {verified.records} records, {verified.proven} of them proven; last signed {until}\n")
    if verified.anchored:
        stamped = f", last stamped {verified.stamped:%Y-%m-%d %H:%M:%S} UTC" if verified.stamped is not None else ""
        out(f"{verified.anchored} anchors are genuine{stamped}\n")
    if verified.pruned:
        out(f"{verified.pruned} older records were pruned; their signed heads are there\n")
    out(f"{verified.in_words}\n")


def _where(fault: Fault) -> str:
    return fault.file if fault.record is None else f"{fault.file}, record {fault.record}"
