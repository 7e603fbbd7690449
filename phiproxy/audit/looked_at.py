"""One file of a log, looked at in one pass, without holding it: what in it is signed, and what is wrong with it by itself.

Held are the hashes of its records up to the last one that is signed, until it is looked through, and then only numbers and roots.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeGuard, TypeVar

from phiproxy.audit.checkpoints import BadCheckpoint, Checkpoint, Verifier, opened
from phiproxy.audit.first_bad import Numbers, first_bad
from phiproxy.audit.log_files import ANCHORS
from phiproxy.audit.merkle_hash_tree import EMPTY_ROOT, Tree
from phiproxy.audit.open_log_file import CHECKPOINTS, HASHES
from phiproxy.audit.reading import StoredFile, Unreadable, record_of
from phiproxy.audit.verify_anchors import Anchored, Witnessed, check_anchors

Record = Mapping[str, Any]
T = TypeVar("T")
N = TypeVar("N")
# So many hashes are held behind the last that is signed: where records were put in, those that were there stand behind it.
_BEHIND: Final = 1000
_AT_ONCE: Final = 4096


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
class Looked:
    """What a file is. ``has_records`` is False where they were pruned, also since; then nothing is said of them.

    ``roots`` are those of its records by their number, as far as others speak of them.
    """

    file: StoredFile
    has_records: bool
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    wrong: Fault | None = None
    """The first record that is not what was signed, or why they cannot be read."""
    unreadable: bool = False
    size: int = 0
    first: Record = field(default_factory=dict)
    last: Record = field(default_factory=dict)
    last_signed: Record = field(default_factory=dict)
    is_torn: bool = False
    """Whether something stands behind its last whole record."""
    ends_as_closed: bool = False
    """Whether its last record looks like one that closes it."""
    tail: tuple[int, str] | None = None
    """The first record behind those that are signed that is none, or not numbered on."""
    heads: tuple[dict[str, Record], dict[str, Record]] = field(default_factory=lambda: ({}, {}))
    """What it says last of other files as a supervisor: in records that are signed, and behind them."""
    roots: dict[int, bytes] = field(default_factory=lambda: {0: EMPTY_ROOT})
    signed: Checkpoint | None = None
    """Its last genuine checkpoint."""
    is_forged: bool = False
    """Whether one of its checkpoints is not genuine."""
    has_notes: bool = False
    is_bare: bool = False
    """Whether nothing stands beside its records."""
    has_hashes: bool = True
    """Whether the stored hashes are those of its records, where they can be read."""
    anchored: Anchored = field(default_factory=Anchored)
    believed: int = 0
    """How many of its records are signed, by its checkpoints or in the file that follows it."""

    @property
    def proven(self) -> int:
        """How many of its records its checkpoints cover."""
        return self.signed.size if self.signed is not None else 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is left of it: a process that has begun it in vain may end before all is away."""
        return self.is_bare and not self.has_records

    @property
    def is_begun_only(self) -> bool:
        """Whether there is nothing in it but at most the record that opens it, and no checkpoint."""
        return self.has_records and self.size <= 1 and not (self.has_notes or self.unreadable)

    @property
    def is_genuine(self) -> bool:
        """Whether some of its records are signed, and those that are signed are the ones that are there."""
        return self.has_records and self.proven > 0 and self.wrong is None

    @property
    def is_closed(self) -> bool:
        """Whether it ends with a record that closes it, which is signed: anybody can write one that is not."""
        return self.believed == self.size and self.last.get("kind") == "log.closed"

    def without_records(self) -> "Looked":
        """Return what there is of it when its records were pruned since."""
        kept = Looked(self.file, has_records=False, faults=self.faults, notes=self.notes)
        kept.signed, kept.is_forged, kept.has_notes, kept.is_bare = self.signed, self.is_forged, self.has_notes, self.is_bare
        kept.anchored = self.anchored
        return kept

    def root_of(self, size: int) -> bytes:
        """Return the root of its first records: what is not known of it yet is read again."""
        if size not in self.roots:
            tree = Tree()
            with suppress(OSError, Unreadable):  # then it is not what it was
                tree.extend(islice((entry.leaf for entry in self.file.entries() if entry.is_whole), max(size, 0)))
            self.roots[size] = tree.root()
        return self.roots[size]


def is_head(said: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether something is what a record says of a file."""
    return isinstance(said, dict) and isinstance(said.get("file"), str) and type(said.get("size")) is int and "root" in said


class Look:
    """What looks at one file after the other. Those that speak of others come before these (``snapshot``)."""

    def __init__(self, verifiers: Sequence[Verifier], witnessed: Witnessed) -> None:
        self._verifiers, self._witnessed = verifiers, witnessed
        self._sizes: dict[str, set[int]] = {}

    def __call__(self, file: StoredFile) -> Looked:
        """Look at a file: what is signed is read before the records, and so not cut off where these grow meanwhile."""
        looked = Looked(file, file.has_records)
        anchors = _beside(looked, ANCHORS, lambda: file.read(ANCHORS), b"")
        notes, torn_note = _beside(looked, CHECKPOINTS, file.notes, ([], b""))
        checkpoints = self._checkpoints(looked, notes)
        if torn_note.strip(b"\n"):
            looked.notes.append(Fault(file.stem, None, "the last checkpoint is not whole: the proxy ended while it was written"))
        looked.has_notes, looked.signed = bool(notes), checkpoints[-1] if checkpoints else None
        hashes = _beside(looked, HASHES, lambda: file.hashes(max(looked.proven, 1)), None)
        looked.is_bare = not (notes or torn_note or anchors or hashes or looked.faults)
        looked.anchored = check_anchors(anchors, notes, self._witnessed)
        if file.has_records:
            try:
                self._read(looked, checkpoints, hashes)
            except (OSError, Unreadable) as error:
                looked.unreadable = True
                looked.wrong = Fault(file.stem, None, f"its records cannot be read: {_why(error)}")
        return looked

    def _checkpoints(self, looked: Looked, notes: Sequence[bytes]) -> list[Checkpoint]:
        """Return the checkpoints that one of the keys has signed: those count."""
        checkpoints: list[Checkpoint] = []
        stem, said = looked.file.stem, looked.faults
        for number, note in enumerate(notes, start=1):
            try:
                checkpoint = opened(note, self._verifiers)
            except BadCheckpoint as bad:
                said.append(Fault(stem, None, f"checkpoint {number} is not genuine: {bad}"))
                continue
            if not any(checkpoint.origin == f"{verifier.name}/{stem}" for verifier in self._verifiers):
                said.append(Fault(stem, None, f"checkpoint {number} is of another file: {checkpoint.origin}"))
            elif checkpoints and (checkpoint.size, checkpoint.time) < (checkpoints[-1].size, checkpoints[-1].time):
                said.append(Fault(stem, None, f"checkpoint {number} is older than the one before it"))
            else:
                checkpoints.append(checkpoint)
        looked.is_forged = len(checkpoints) < len(notes)
        return checkpoints

    def _read(self, looked: Looked, checkpoints: Sequence[Checkpoint], hashes: Sequence[bytes] | None) -> None:
        """Read the records of a file once, and compare them with what is signed; OSError, Unreadable."""
        stem, proven, roots = looked.file.stem, looked.proven, looked.roots
        sizes = {*self._sizes.get(stem, ()), *(checkpoint.size for checkpoint in checkpoints)}
        tree, leaves, unhashed, last, tail = Tree(), list[bytes](), list[bytes](), b"", Numbers()
        for entry in looked.file.entries():
            if not entry.is_whole:
                looked.is_torn = True
                break
            looked.size, last = looked.size + 1, entry.line
            unhashed.append(entry.leaf)
            if looked.size in sizes or len(unhashed) == _AT_ONCE:
                tree.extend(unhashed)
                unhashed.clear()
                if looked.size in sizes:
                    roots[looked.size] = tree.root()
            if len(leaves) < proven + _BEHIND:
                leaves.append(entry.leaf)
            if looked.size == 1:
                looked.first = record_of(last) or {}
                self._speaks_of(looked.first.get("previous"))
            if looked.size >= proven and tail.broken is None:
                record = tail.take(looked.size, last, counts=looked.size > proven)
                looked.last_signed = record if record is not None and looked.size == proven else looked.last_signed
            if b'"kind":"log.heads"' in last:
                self._take_heads(looked.heads[looked.size > proven], (record_of(last) or {}).get("heads"))
        tree.extend(unhashed)
        roots[looked.size], looked.last, looked.tail = tree.root(), record_of(last) or {}, tail.broken
        looked.ends_as_closed = b'"kind":"log.closed"' in last
        wrong = next((checkpoint for checkpoint in checkpoints if roots.get(checkpoint.size) != checkpoint.root), None)
        if wrong is not None:
            looked.wrong = Fault(stem, *first_bad(looked.file, looked.size, leaves, hashes or [], checkpoints, wrong))
        looked.has_hashes = hashes is None or hashes[:proven] == leaves[:proven]

    def _take_heads(self, newest: dict[str, Record], heads: object) -> None:
        for said in heads if isinstance(heads, list) else ():
            if is_head(said) and said["size"] >= newest.get(said["file"], {"size": 0})["size"]:
                newest[said["file"]] = said
                self._speaks_of(said)

    def _speaks_of(self, said: object) -> None:
        if is_head(said):
            self._sizes.setdefault(said["file"], set()).add(said["size"])


def _beside(looked: Looked, suffix: str, read: Callable[[], T], nothing: N) -> T | N:
    """Return what stands in a file beside the records; nothing where it cannot be read, which is a fault."""
    try:
        return read()
    except (OSError, Unreadable) as error:
        looked.faults.append(Fault(looked.file.stem, None, f"its {suffix[1:]} cannot be read: {_why(error)}"))
        return nothing


def _why(error: OSError | Unreadable) -> str:
    return error.why if isinstance(error, Unreadable) else error.strerror or type(error).__name__
