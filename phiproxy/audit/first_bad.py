"""Which record is the first that is not what was signed: by the stored hashes where a checkpoint proves them, or near it."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from phiproxy.audit.checkpoints import Checkpoint
from phiproxy.audit.merkle_hash_tree import Tree
from phiproxy.audit.reading import StoredFile, record_of

Bad = tuple[int, str]
"""A record (from 1), and what is wrong with it."""


class Numbers:
    """Finds the first of some records that is none, or is not numbered behind the one before it."""

    def __init__(self) -> None:
        self.broken: Bad | None = None
        self._before: Mapping[str, Any] | None = None

    def take(self, number: int, line: bytes, *, counts: bool) -> Mapping[str, Any] | None:
        """Look at the next line, and return it as a record; one that does not count only says which number comes next."""
        record, before = record_of(line), self._before
        if counts:
            if record is None:
                self.broken = number, "it is not a record"
            elif before is not None and record["sequence"] != before["sequence"] + 1:
                what = "out of order" if record["sequence"] <= before["sequence"] else "missing"
                self.broken = number, f"{what}: number {before['sequence']} is followed by {record['sequence']}"
        self._before = record
        return record


def first_bad(
    file: StoredFile,
    size: int,
    leaves: Sequence[bytes],
    hashes: Sequence[bytes],
    checkpoints: Sequence[Checkpoint],
    wrong: Checkpoint,
) -> Bad:
    """Name the first bad one of a file of so many records; ``wrong`` is the first checkpoint that they are not those of.

    ``leaves`` are their hashes as far as records are signed, ``hashes`` those that are stored. OSError, Unreadable.
    """
    tree, genuine = Tree(), 0
    roots = {checkpoint.size: checkpoint.root for checkpoint in checkpoints}
    for at in sorted(at for at in roots if at <= len(hashes)):
        tree.extend(hashes[tree.size : at])
        if roots[at] == tree.root():
            genuine = at
    if genuine >= wrong.size:
        return _compared(hashes[:genuine], leaves)
    good = max((checkpoint.size for checkpoint in checkpoints if checkpoint.size < wrong.size), default=0)
    numbers = Numbers()
    for number, line in enumerate(islice(file.lines(), wrong.size), start=1):
        if number >= good and numbers.broken is None:
            numbers.take(number, line, counts=number > good)
    broken = numbers.broken
    if broken is None and size < wrong.size:
        broken = cut_off(size + 1, wrong.size)
    if broken is not None and broken[0] == good + 1:
        return broken
    # What is seen to be wrong may stand behind what was forged better.
    text = f"one of records {good + 1} to {wrong.size} is not what was signed (their hashes were changed too)"
    return good + 1, text if broken is None else f"{text}; record {broken[0]}: {broken[1]}"


def cut_off(first: int, last: int, known: str = "") -> Bad:
    """Say that records are missing at the end."""
    return first, f"cut off: records {first} to {last} are missing{known}"


def _compared(stored: Sequence[bytes], leaves: Sequence[bytes]) -> Bad:
    """Name the first record whose hash is not the one that is proven."""
    differing = (i for i, (proven, leaf) in enumerate(zip(stored, leaves, strict=False)) if proven != leaf)
    i = next(differing, min(len(stored), len(leaves)))
    number = i + 1
    if i >= len(leaves):
        return cut_off(number, len(stored))
    elsewhere = stored[i] in leaves[i + 1 :]
    from_elsewhere = leaves[i] in stored[i + 1 :]
    if from_elsewhere and elsewhere:
        return number, f"out of order: record {stored.index(leaves[i], i + 1) + 1} stands in its position"
    if from_elsewhere:
        behind = stored.index(leaves[i], i + 1)
        return number, "missing" if behind == i + 1 else f"missing, with those up to record {behind}"
    if elsewhere:
        return number, "a record that was never written stands before it"
    return number, "changed: it is not the record that was signed"
