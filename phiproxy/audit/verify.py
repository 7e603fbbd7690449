"""Offline verification of an audit log: needs its directory and its public key, no secret, no database, no network.

What is proven is what the last signed checkpoint of a file covers. Beside it stand the hashes of all leaves, which the checkpoint
proves too: so the first record that is not what it was is named, and not only that there is one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from phiproxy.audit.checkpoints import Verifier
from phiproxy.audit.first_bad import cut_off
from phiproxy.audit.log_files import head
from phiproxy.audit.looked_at import Fault, Look, Looked, is_head
from phiproxy.audit.snapshot import snapshot
from phiproxy.audit.verify_anchors import Witnessed

# Of a log that is open the last checkpoint is younger than so many intervals.
_LATE = 3
# A longer interval, in seconds, is none.
_LONGEST = 366 * 86_400
# The interval where no record that is signed says it.
DEFAULT_SECONDS: Final = 60


@dataclass(slots=True)
class Verified:
    """What was verified: the faults, in the order of the files, and what is as it should be."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    files: int = 0
    records: int = 0
    proven: int = 0
    pruned: int = 0
    until: datetime | None = None
    """The time of the last checkpoint of all."""
    anchored: int = 0
    """How many anchors were verified."""
    stamped: datetime | None = None
    """The time of the last verified time stamp."""

    @property
    def in_words(self) -> str:
        """What it comes to."""
        if not self.faults:
            return "nothing was changed, removed or reordered"
        if all(fault.unknown for fault in self.faults):
            return "nothing before its end was changed, removed or reordered; whether its end was cut off cannot be told"
        return "the log is not what was signed"


def verify(
    directory: Path, verifiers: Sequence[Verifier], as_of: datetime | None = None, witnessed: Witnessed | None = None
) -> Verified:
    """Verify a log that was as it is at ``as_of`` (now), and its anchors with what is ``witnessed``; ConfigError where none is."""
    result = Verified()
    there = snapshot(directory, Look(verifiers, witnessed or Witnessed()))
    files = there.files
    by_stem = {looked.file.stem: looked for looked in files}
    _believe(files, by_stem)
    for looked in files:
        _count(looked, result)
        _check_records(looked, result)
    writers: dict[tuple[str, str], list[Looked]] = {}
    for looked in files:
        writers.setdefault(looked.file.writer, []).append(looked)
    for chain in writers.values():
        _check_chain(chain, by_stem, there.stems, result, as_of or datetime.now(UTC))
    for looked in files:
        # What is signed, and what is not yet: a record that anybody can write hides none of those that are.
        for newest in looked.heads:
            for said in newest.values():
                _check_head(said, by_stem, there.stems, looked.file.stem, result, exact=False)
    order = {looked.file.stem: i for i, looked in enumerate(files)}
    result.faults.sort(key=lambda fault: (order.get(fault.file, len(order)), fault.record or 0))
    return result


def signed_lines(directory: Path, verifiers: Sequence[Verifier]) -> Iterator[bytes]:
    """Yield the records of a log that a checkpoint of their file covers, of files in which these are what was signed; ConfigError.

    Not what the next file says was left before it: whoever has begun that has not looked who had written it.
    """
    for looked in snapshot(directory, Look(verifiers, Witnessed())).files:
        if looked.is_genuine:
            yield from islice(looked.file.lines(), looked.proven)


def _believe(files: Sequence[Looked], by_stem: Mapping[str, Looked]) -> None:
    """Say of each file how many of its records are signed: what another one says of it counts where that itself is signed."""
    for looked in files:
        looked.believed = looked.proven if looked.is_genuine else 0
    waiting = [looked for looked in files if looked.believed]
    while waiting:
        said = waiting.pop().first.get("previous")
        before = by_stem.get(said["file"]) if is_head(said) else None
        if before is None or before.wrong is not None or before.believed >= before.size:
            continue
        if said == head(before.file.stem, before.size, before.roots[before.size]):
            before.believed = before.size
            waiting.append(before)


def _count(looked: Looked, result: Verified) -> None:
    """Take what was found in a file by itself."""
    result.faults += looked.faults
    result.notes += looked.notes
    if looked.has_records:
        result.files += 1
        result.records += looked.size
    if looked.signed is not None:
        result.until = max(looked.signed.time, result.until or looked.signed.time)
    stem, anchored = looked.file.stem, looked.anchored
    result.anchored += anchored.verified
    if anchored.until is not None:
        result.stamped = max(anchored.until, result.stamped or anchored.until)
    result.faults += [Fault(stem, None, text) for text in anchored.wrong]
    if anchored.unverified:
        text = f"{anchored.unverified} anchors are not verified: --tsa-root or --anchor-key says with what"
        result.notes.append(Fault(stem, None, text))


def _check_records(looked: Looked, result: Verified) -> None:
    """See that the records are those that the checkpoints cover, and that those behind the last one are numbered on."""
    stem = looked.file.stem
    if looked.unreadable and looked.wrong is not None:
        result.faults.append(looked.wrong)
        return
    if looked.is_torn:
        _check_torn(looked, result)
    if not looked.has_records:
        return
    if looked.is_begun_only:
        result.notes.append(Fault(stem, None, "it was begun, and nothing of it is signed"))
        return
    if looked.signed is None:
        result.faults.append(Fault(stem, None, "no genuine checkpoint: nothing of this file is proven"))
    if looked.wrong is not None:
        result.faults.append(looked.wrong)
        return
    result.proven += looked.proven
    if not looked.has_hashes:
        result.faults.append(Fault(stem, None, "the hashes of the leaves are not those of the records, which are genuine"))
    _check_tail(looked, result)


def _check_torn(looked: Looked, result: Verified) -> None:
    """Say what stands behind the last whole record: a process that was killed leaves that, and none that has closed the file."""
    if looked.ends_as_closed:
        text = "something was added behind the record that closes it"
        result.faults.append(Fault(looked.file.stem, looked.size + 1, text))
    else:
        text = "the last record is not whole: the proxy ended while it was written"
        result.notes.append(Fault(looked.file.stem, looked.size + 1, text))


def _check_tail(looked: Looked, result: Verified) -> None:
    proven, stem = looked.proven, looked.file.stem
    tail = looked.size - proven
    if tail <= 0:
        return
    if looked.tail is not None:
        result.faults.append(Fault(stem, *looked.tail))
    elif looked.signed is None:
        return  # nothing of it is proven
    elif looked.believed > proven:
        result.proven += tail
        text = f"{tail} records behind its last checkpoint are proven by the next file: the proxy had ended before it signed them"
        result.notes.append(Fault(stem, proven + 1, text))
    elif looked.last_signed.get("kind") == "log.closed":
        result.faults.append(Fault(stem, proven + 1, "it was added behind the record that closes the file"))
    elif looked.is_forged:
        text = f"{tail} records, the first of which this is, stand only under checkpoints that are not genuine"
        result.faults.append(Fault(stem, proven + 1, text))
    else:
        text = f"{tail} records behind the last checkpoint are not signed yet"
        result.notes.append(Fault(stem, proven + 1, text))


def _check_chain(
    chain: Sequence[Looked], by_stem: Mapping[str, Looked], stems: frozenset[str], result: Verified, as_of: datetime
) -> None:
    """See that the files of one writer follow one another, and how the last of them ends; ``stems`` are there, read or not."""
    with_records = [looked for looked in chain if looked.has_records]
    _check_removed(chain, result)
    # Of files in which nothing is, those that follow know nothing.
    filled = [looked for looked in with_records if looked.size or not looked.is_begun_only]
    seconds, signed = DEFAULT_SECONDS, False
    for looked, following in zip(filled, [*filled[1:], None], strict=False):
        if looked.unreadable:
            continue
        previous = looked.first.get("previous")
        if looked.first.get("kind") != "log.opened" and (looked.wrong is None or looked.wrong.record != 1):
            result.faults.append(Fault(looked.file.stem, 1, "its beginning is missing: the first record does not open the file"))
        elif is_head(previous):
            _check_head(previous, by_stem, frozenset(), looked.file.stem, result, exact=True)
        said = looked.first.get("checkpoint_seconds")
        # What is not signed says nothing against what is.
        if type(said) is int and 0 < said <= _LONGEST and (looked.believed or not signed):
            seconds, signed = said, signed or looked.believed > 0
        _check_order(looked, following, stems, result, as_of, timedelta(seconds=_LATE * seconds + 5))
    if with_records and with_records[-1] not in filled and (not filled or filled[-1].is_closed):
        _check_end(with_records[-1], result, as_of, timedelta(seconds=_LATE * seconds + 5))


def _check_removed(chain: Sequence[Looked], result: Verified) -> None:
    """See that the files of a writer that are without their records were pruned: from the oldest on, and never the last one.

    Of files of which nothing is signed none is that last one: anybody can put them there.
    """
    first_kept = min((looked.file.begun for looked in chain if looked.has_records), default="")
    is_kept = any(looked.believed for looked in chain)
    for looked in chain:
        if looked.has_records or looked.is_empty:
            continue
        if looked.file.begun > first_kept:
            text = "its records are missing, and " + ("older files are there" if first_kept else "so are all others of its process")
        elif not is_kept:
            text = "its records are missing, and nothing that is signed is behind them"
        elif looked.signed is None:
            text = "its records are missing, and no signed head of them is there"
        else:
            result.pruned += looked.proven
            until = f"{looked.signed.time:%Y-%m-%d %H:%M:%S} UTC"
            text = f"its {looked.proven} records were removed (pruned), all from before {until}; its signed heads are there"
            result.notes.append(Fault(looked.file.stem, None, text))
            continue
        result.faults.append(Fault(looked.file.stem, None, text))


def _check_order(
    looked: Looked, following: Looked | None, stems: frozenset[str], result: Verified, as_of: datetime, patience: timedelta
) -> None:
    """See that a file is closed, and that the one is there that its last record names; or that the following one knows it.

    Of files behind it of which nothing is signed, none says how it ended: anybody can put them there.
    """
    stem, last = looked.file.stem, looked.last
    if last.get("kind") == "log.closed":
        following_stem = last.get("next")
        if isinstance(following_stem, str) and following_stem not in stems:
            result.faults.append(Fault(stem, None, f"the file that follows it is missing: {following_stem}"))
    if looked.is_closed or (following is not None and following.unreadable):
        return
    if following is None or (looked.believed and not following.believed):
        _check_end(looked, result, as_of, patience)
    elif following.believed:
        previous = following.first.get("previous")
        if not (is_head(previous) and previous["file"] == stem):
            result.faults.append(Fault(stem, looked.size + 1, "cut off: it does not end with a closing record"))


def _check_end(looked: Looked, result: Verified, as_of: datetime, patience: timedelta) -> None:
    """See that a writer is at work: it has signed something, or begun a file that it has not signed yet, no longer ago than that.

    When that was begun only its name says, which is no time that is still to come; but clocks differ.
    """
    latest = looked.signed.time if looked.signed is not None else looked.file.begun_at
    if looked.signed is None and latest > as_of + patience:
        text = "it has the name of a time that is still to come, and nothing of it is signed"
        result.faults.append(Fault(looked.file.stem, None, text))
    elif latest < as_of - patience:
        text = f"ends without a closing record: cut off, or the proxy was killed, after {latest.isoformat()}"
        text += "; its next start will sign what there is"
        result.faults.append(Fault(looked.file.stem, looked.size + 1, text, unknown=True))


def _check_head(
    said: Mapping[str, Any], by_stem: Mapping[str, Looked], stems: frozenset[str], by: str, result: Verified, *, exact: bool
) -> None:
    """See that a file is what another one says of it; ``stems`` may have been begun since it was read what there is."""
    stem, size = said["file"], said["size"]
    looked = by_stem.get(stem)
    if (looked is None and stem in stems) or (looked is not None and looked.unreadable):
        return
    if looked is None:
        result.faults.append(Fault(stem, None, f"the file is missing, of which {by} knows {size} records"))
    elif not looked.has_records:
        if looked.proven < size:
            result.faults.append(Fault(stem, None, f"its records are removed, and no head is there of the {size} that {by} knows"))
    elif looked.size < size:
        result.faults.append(Fault(stem, *cut_off(looked.size + 1, size, f", which {by} knows of")))
    elif head(stem, size, looked.root_of(size)) != dict(said):
        result.faults.append(Fault(stem, None, f"one of its first {size} records is not what it was when {by} was written"))
    elif exact and looked.size > size:
        result.faults.append(Fault(stem, size + 1, f"records were added behind its end, which {by} knows"))
