"""Offline verification of an audit log: needs its directory and its public key, no secret, no database, no network.

What is proven is what the last signed checkpoint of a file covers. Beside it stand the hashes of all leaves, which the checkpoint
proves too: so the first record that is not what it was is named, and not only that there is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeGuard

from phiproxy.audit.checkpoints import BadCheckpoint, Checkpoint, Verifier, opened
from phiproxy.audit.log_files import head
from phiproxy.audit.merkle_hash_tree import EMPTY_ROOT, Tree, leaf_hash, root_of
from phiproxy.audit.reading import StoredFile, record_of
from phiproxy.audit.snapshot import Contents, snapshot
from phiproxy.audit.verify_anchors import Witnessed, check_anchors

# Of a log that is open the last checkpoint is younger than so many intervals.
_LATE = 3
# A longer interval, in seconds, is none.
_LONGEST = 366 * 86_400
# The interval where no record that is signed says it.
DEFAULT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a log: in which file, and where one can be named with which record (from 1).

    ``unknown``: it looks the same where nothing is wrong, and the proxy was killed.
    """

    file: str
    record: int | None
    text: str
    unknown: bool = False


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


@dataclass(slots=True)
class _Looked:
    """One file with what was read of it; ``roots`` are those of its records by their number, as far as somebody needs them."""

    contents: Contents
    leaves: list[bytes]
    checkpoints: list[Checkpoint]
    roots: dict[int, bytes] = field(default_factory=dict)
    forged: bool = False
    """Whether one of its checkpoints is not genuine."""
    believed: int = 0
    """How many of its records are signed, by its checkpoints or in the file that follows it."""

    @property
    def file(self) -> StoredFile:
        return self.contents.file

    @property
    def lines(self) -> list[bytes]:
        return self.contents.lines

    @property
    def has_records(self) -> bool:
        return self.contents.has_records

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is in what is left of it: a process that has begun it in vain may end before all is away."""
        there = self.contents
        return not (there.notes or there.torn_note or there.anchors or there.hashes or self.has_records)

    @property
    def is_begun_only(self) -> bool:
        """Whether there is nothing in it but at most the record that opens it, and no checkpoint."""
        return self.has_records and len(self.lines) <= 1 and not (self.contents.notes or self.contents.unreadable)

    @property
    def proven(self) -> int:
        return self.checkpoints[-1].size if self.checkpoints else 0

    @property
    def wrong(self) -> Checkpoint | None:
        """The first checkpoint that the records are not those of."""
        return next((c for c in self.checkpoints if self.roots.get(c.size) != c.root), None)

    @property
    def is_genuine(self) -> bool:
        """Whether some of its records are signed, and those that are signed are the ones that are there."""
        return self.has_records and self.proven > 0 and self.wrong is None

    @property
    def first(self) -> Mapping[str, Any]:
        return (record_of(self.lines[0]) if self.lines else None) or {}

    @property
    def last(self) -> Mapping[str, Any]:
        return (record_of(self.lines[-1]) if self.lines else None) or {}

    @property
    def is_closed(self) -> bool:
        """Whether it ends with a record that closes it, which is signed: anybody can write one that is not."""
        return self.believed == len(self.lines) and self.last.get("kind") == "log.closed"


def verify(
    directory: Path, verifiers: Sequence[Verifier], as_of: datetime | None = None, witnessed: Witnessed | None = None
) -> Verified:
    """Verify a log that was as it is at ``as_of`` (now), and its anchors with what is ``witnessed``; ConfigError where none is."""
    result = Verified()
    there = snapshot(directory)
    files = [_look(contents, verifiers, result) for contents in there.files]
    by_stem = {looked.file.stem: looked for looked in files}
    _compute_roots(files)
    _believe(files, by_stem)
    for looked in files:
        _check_records(looked, result)
    writers: dict[tuple[str, str], list[_Looked]] = {}
    for looked in files:
        writers.setdefault(looked.file.writer, []).append(looked)
    for chain in writers.values():
        _check_chain(chain, by_stem, there.stems, result, as_of or datetime.now(UTC))
    for looked in files:
        _check_heads(looked, by_stem, there.stems, result)
        _check_anchors(looked.contents, witnessed or Witnessed(), result)
    order = {looked.file.stem: i for i, looked in enumerate(files)}
    result.faults.sort(key=lambda fault: (order.get(fault.file, len(order)), fault.record or 0))
    return result


def _look(contents: Contents, verifiers: Sequence[Verifier], result: Verified) -> _Looked:
    """Look at a file and its checkpoints: those that one of the keys has signed count."""
    file, lines = contents.file, contents.lines
    if contents.unreadable is not None:
        result.faults.append(Fault(file.stem, None, contents.unreadable))
    if contents.torn:
        _check_torn(file.stem, lines, result)
    checkpoints: list[Checkpoint] = []
    for number, note in enumerate(contents.notes, start=1):
        try:
            checkpoint = opened(note, verifiers)
        except BadCheckpoint as bad:
            result.faults.append(Fault(file.stem, None, f"checkpoint {number} is not genuine: {bad}"))
            continue
        if not any(checkpoint.origin == f"{verifier.name}/{file.stem}" for verifier in verifiers):
            result.faults.append(Fault(file.stem, None, f"checkpoint {number} is of another file: {checkpoint.origin}"))
        elif checkpoints and (checkpoint.size, checkpoint.time) < (checkpoints[-1].size, checkpoints[-1].time):
            result.faults.append(Fault(file.stem, None, f"checkpoint {number} is older than the one before it"))
        else:
            checkpoints.append(checkpoint)
    if contents.torn_note.strip(b"\n"):
        result.notes.append(Fault(file.stem, None, "the last checkpoint is not whole: the proxy ended while it was written"))
    if checkpoints and (result.until is None or checkpoints[-1].time > result.until):
        result.until = checkpoints[-1].time
    if contents.has_records:
        result.files += 1
        result.records += len(lines)
    return _Looked(contents, [leaf_hash(line) for line in lines], checkpoints, forged=len(checkpoints) < len(contents.notes))


def _check_torn(stem: str, lines: Sequence[bytes], result: Verified) -> None:
    """Say what stands behind the last whole record: a process that was killed leaves that, and none that has closed the file."""
    if lines and b'"kind":"log.closed"' in lines[-1]:
        result.faults.append(Fault(stem, len(lines) + 1, "something was added behind the record that closes it"))
    else:
        text = "the last record is not whole: the proxy ended while it was written"
        result.notes.append(Fault(stem, len(lines) + 1, text))


def _compute_roots(files: Sequence[_Looked]) -> None:
    """Compute the roots of each file at every number of records that a checkpoint, another file or a supervisor speaks of."""
    wanted: dict[str, set[int]] = {looked.file.stem: {c.size for c in looked.checkpoints} for looked in files}
    for looked in files:
        for said in (looked.first.get("previous"), *_heads_in(looked.lines)):
            if _is_head(said):
                wanted.setdefault(said["file"], set()).add(said["size"])
    for looked in files:
        sizes, tree = wanted[looked.file.stem], Tree()
        looked.roots[0] = EMPTY_ROOT
        for size in sorted(size for size in sizes if 0 < size <= len(looked.leaves)):
            tree.extend(looked.leaves[tree.size : size])
            looked.roots[size] = tree.root()


def _believe(files: Sequence[_Looked], by_stem: Mapping[str, _Looked]) -> None:
    """Say of each file how many of its records are signed: what another one says of it counts where that itself is signed."""
    for looked in files:
        looked.believed = looked.proven if looked.is_genuine else 0
    waiting = [looked for looked in files if looked.believed]
    while waiting:
        said = waiting.pop().first.get("previous")
        before = by_stem.get(said["file"]) if _is_head(said) else None
        if before is None or before.wrong is not None or before.believed >= len(before.lines):
            continue
        size = len(before.lines)
        if said == head(before.file.stem, size, before.roots.get(size, EMPTY_ROOT)):
            before.believed = size
            waiting.append(before)


def _heads_in(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return what the records of a supervisor say of its workers' files."""
    said: list[Any] = []
    for line in lines:
        if b'"kind":"log.heads"' in line:
            heads = (record_of(line) or {}).get("heads")
            said += heads if isinstance(heads, list) else []
    return [each for each in said if _is_head(each)]


def _is_head(said: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(said, dict) and isinstance(said.get("file"), str) and type(said.get("size")) is int and "root" in said


def _check_records(looked: _Looked, result: Verified) -> None:
    """See that the records are those that the checkpoints cover, and that those behind the last one are numbered on."""
    file, proven = looked.file, looked.proven
    if not looked.has_records:
        return
    if looked.is_begun_only:
        result.notes.append(Fault(file.stem, None, "it was begun, and nothing of it is signed"))
        return
    if not looked.checkpoints:
        result.faults.append(Fault(file.stem, None, "no genuine checkpoint: nothing of this file is proven"))
    wrong = looked.wrong
    if wrong is None:
        result.proven += proven
        if looked.contents.hashes[:proven] != looked.leaves[:proven]:
            result.faults.append(Fault(file.stem, None, "the hashes of the leaves are not those of the records, which are genuine"))
        _check_tail(looked, proven, result)
        return
    result.faults.append(_first_bad(looked, wrong))


def _first_bad(looked: _Looked, wrong: Checkpoint) -> Fault:
    """Name the first record that is not what it was: by the stored hashes where a checkpoint proves them, or near it."""
    stem, stored = looked.file.stem, looked.contents.hashes
    tree, genuine = Tree(), 0
    sizes = {c.size: c.root for c in looked.checkpoints}
    for size in sorted(size for size in sizes if size <= len(stored)):
        tree.extend(stored[tree.size : size])
        if sizes[size] == tree.root():
            genuine = size
    if genuine >= wrong.size:
        return _compared(stem, stored[:genuine], looked.leaves)
    good = max((c.size for c in looked.checkpoints if c.size < wrong.size), default=0)
    broken = _broken(looked.lines, good, wrong.size)
    if broken is None and len(looked.lines) < wrong.size:
        cut_off = _cut_off(stem, len(looked.lines) + 1, wrong.size)
        broken = len(looked.lines) + 1, cut_off.text
    if broken is not None and broken[0] == good + 1:
        return Fault(stem, *broken)
    # What is seen to be wrong may stand behind what was forged better.
    text = f"one of records {good + 1} to {wrong.size} is not what was signed (their hashes were changed too)"
    return Fault(stem, good + 1, text if broken is None else f"{text}; record {broken[0]}: {broken[1]}")


def _cut_off(stem: str, first: int, last: int, known: str = "") -> Fault:
    return Fault(stem, first, f"cut off: records {first} to {last} are missing{known}")


def _compared(stem: str, stored: Sequence[bytes], leaves: Sequence[bytes]) -> Fault:
    """Name the first record whose hash is not the one that is proven."""
    differing = (i for i, (proven, leaf) in enumerate(zip(stored, leaves, strict=False)) if proven != leaf)
    i = next(differing, min(len(stored), len(leaves)))
    number = i + 1
    if i >= len(leaves):
        return _cut_off(stem, number, len(stored))
    elsewhere = stored[i] in leaves[i + 1 :]
    from_elsewhere = leaves[i] in stored[i + 1 :]
    if from_elsewhere and elsewhere:
        return Fault(stem, number, f"out of order: record {stored.index(leaves[i], i + 1) + 1} stands in its position")
    if from_elsewhere:
        behind = stored.index(leaves[i], i + 1)
        return Fault(stem, number, "missing" if behind == i + 1 else f"missing, with those up to record {behind}")
    if elsewhere:
        return Fault(stem, number, "a record that was never written stands before it")
    return Fault(stem, number, "changed: it is not the record that was signed")


def _broken(lines: Sequence[bytes], start: int, end: int) -> tuple[int, str] | None:
    """Find the first of some records that is no record, or is not numbered behind the one before it."""
    before = record_of(lines[start - 1]) if start and start <= len(lines) else None
    for i in range(start, min(end, len(lines))):
        record = record_of(lines[i])
        if record is None:
            return i + 1, "it is not a record"
        if before is not None and record["sequence"] != before["sequence"] + 1:
            gap = record["sequence"] - before["sequence"]
            what = "out of order" if gap <= 0 else "missing"
            return i + 1, f"{what}: number {before['sequence']} is followed by {record['sequence']}"
        before = record
    return None


def _check_tail(looked: _Looked, proven: int, result: Verified) -> None:
    tail, stem = len(looked.lines) - proven, looked.file.stem
    if tail <= 0:
        return
    broken = _broken(looked.lines, proven, len(looked.lines))
    if broken is not None:
        result.faults.append(Fault(stem, *broken))
    elif not looked.checkpoints:
        return  # nothing of it is proven
    elif looked.believed > proven:
        result.proven += tail
        text = f"{tail} records behind its last checkpoint are proven by the next file: the proxy had ended before it signed them"
        result.notes.append(Fault(stem, proven + 1, text))
    elif (record_of(looked.lines[proven - 1]) or {}).get("kind") == "log.closed":
        result.faults.append(Fault(stem, proven + 1, "it was added behind the record that closes the file"))
    elif looked.forged:
        text = f"{tail} records, the first of which this is, stand only under checkpoints that are not genuine"
        result.faults.append(Fault(stem, proven + 1, text))
    else:
        text = f"{tail} records behind the last checkpoint are not signed yet"
        result.notes.append(Fault(stem, proven + 1, text))


def _check_chain(
    chain: Sequence[_Looked], by_stem: Mapping[str, _Looked], stems: frozenset[str], result: Verified, as_of: datetime
) -> None:
    """See that the files of one writer follow one another, and how the last of them ends; ``stems`` are there, read or not."""
    with_records = [looked for looked in chain if looked.has_records]
    _check_removed(chain, result)
    # Of files in which nothing is, those that follow know nothing.
    filled = [looked for looked in with_records if looked.lines or not looked.is_begun_only]
    seconds, signed = DEFAULT_SECONDS, False
    for looked, following in zip(filled, [*filled[1:], None], strict=False):
        previous = looked.first.get("previous")
        if looked.first.get("kind") != "log.opened":
            result.faults.append(Fault(looked.file.stem, 1, "its beginning is missing: the first record does not open the file"))
        elif _is_head(previous):
            _check_head(previous, by_stem, frozenset(), looked.file.stem, result, exact=True)
        said = looked.first.get("checkpoint_seconds")
        # What is not signed says nothing against what is.
        if type(said) is int and 0 < said <= _LONGEST and (looked.believed or not signed):
            seconds, signed = said, signed or looked.believed > 0
        _check_order(looked, following, stems, result, as_of, timedelta(seconds=_LATE * seconds + 5))
    if with_records and with_records[-1] not in filled and (not filled or filled[-1].is_closed):
        _check_end(with_records[-1], result, as_of, timedelta(seconds=_LATE * seconds + 5))


def _check_removed(chain: Sequence[_Looked], result: Verified) -> None:
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
        elif not looked.proven:
            text = "its records are missing, and no signed head of them is there"
        else:
            result.pruned += looked.proven
            until = f"{looked.checkpoints[-1].time:%Y-%m-%d %H:%M:%S} UTC"
            text = f"its {looked.proven} records were removed (pruned), all from before {until}; its signed heads are there"
            result.notes.append(Fault(looked.file.stem, None, text))
            continue
        result.faults.append(Fault(looked.file.stem, None, text))


def _check_order(
    looked: _Looked, following: _Looked | None, stems: frozenset[str], result: Verified, as_of: datetime, patience: timedelta
) -> None:
    """See that a file is closed, and that the one is there that its last record names; or that the following one knows it.

    Of files behind it of which nothing is signed, none says how it ended: anybody can put them there.
    """
    stem, last = looked.file.stem, looked.last
    if last.get("kind") == "log.closed":
        following_stem = last.get("next")
        if isinstance(following_stem, str) and following_stem not in stems:
            result.faults.append(Fault(stem, None, f"the file that follows it is missing: {following_stem}"))
    if looked.is_closed:
        return
    if following is None or (looked.believed and not following.believed):
        _check_end(looked, result, as_of, patience)
    elif following.believed:
        previous = following.first.get("previous")
        if not (_is_head(previous) and previous["file"] == stem):
            result.faults.append(Fault(stem, len(looked.lines) + 1, "cut off: it does not end with a closing record"))


def _check_end(looked: _Looked, result: Verified, as_of: datetime, patience: timedelta) -> None:
    """See that a writer is at work: it has signed something, or begun a file that it has not signed yet, no longer ago than that.

    When that was begun only its name says, which is no time that is still to come; but clocks differ.
    """
    latest = looked.checkpoints[-1].time if looked.checkpoints else looked.file.begun_at
    if not looked.checkpoints and latest > as_of + patience:
        text = "it has the name of a time that is still to come, and nothing of it is signed"
        result.faults.append(Fault(looked.file.stem, None, text))
    elif latest < as_of - patience:
        text = f"ends without a closing record: cut off, or the proxy was killed, after {latest.isoformat()}"
        text += "; its next start will sign what there is"
        result.faults.append(Fault(looked.file.stem, len(looked.lines) + 1, text, unknown=True))


def _check_anchors(contents: Contents, witnessed: Witnessed, result: Verified) -> None:
    file, anchored = contents.file, check_anchors(contents.anchors, contents.notes, witnessed)
    result.anchored += anchored.verified
    if anchored.until is not None and (result.stamped is None or anchored.until > result.stamped):
        result.stamped = anchored.until
    result.faults += [Fault(file.stem, None, text) for text in anchored.wrong]
    if anchored.unverified:
        text = f"{anchored.unverified} anchors are not verified: --tsa-root or --anchor-key says with what"
        result.notes.append(Fault(file.stem, None, text))


def _check_heads(looked: _Looked, by_stem: Mapping[str, _Looked], stems: frozenset[str], result: Verified) -> None:
    """See that what a supervisor has signed of its workers' files is in these."""
    # What is signed, and what is not yet: a record that anybody can write hides none of those that are.
    for lines in looked.lines[: looked.believed], looked.lines[looked.believed :]:
        newest: dict[str, dict[str, Any]] = {}
        for said in _heads_in(lines):
            if said["size"] >= newest.get(said["file"], {"size": 0})["size"]:
                newest[said["file"]] = said
        for said in newest.values():
            _check_head(said, by_stem, stems, looked.file.stem, result, exact=False)


def _check_head(
    said: Mapping[str, Any], by_stem: Mapping[str, _Looked], stems: frozenset[str], by: str, result: Verified, *, exact: bool
) -> None:
    """See that a file is what another one says of it; ``stems`` may have been begun since it was read what there is."""
    stem, size = said["file"], said["size"]
    looked = by_stem.get(stem)
    if looked is None and stem in stems:
        return
    if looked is None:
        result.faults.append(Fault(stem, None, f"the file is missing, of which {by} knows {size} records"))
    elif not looked.has_records:
        if not any(c.size >= size for c in looked.checkpoints):
            result.faults.append(Fault(stem, None, f"its records are removed, and no head is there of the {size} that {by} knows"))
    elif len(looked.lines) < size:
        result.faults.append(_cut_off(stem, len(looked.lines) + 1, size, f", which {by} knows of"))
    elif head(stem, size, looked.roots[size] if size in looked.roots else root_of(looked.leaves[:size])) != dict(said):
        result.faults.append(Fault(stem, None, f"one of its first {size} records is not what it was when {by} was written"))
    elif exact and len(looked.lines) > size:
        result.faults.append(Fault(stem, size + 1, f"records were added behind its end, which {by} knows"))
