"""The Merkle tree of RFC 6962, section 2.1, over SHA-256: its root says what all leaves are, and in which order.

It is signed in ``checkpoints``, and a log is proven by it in ``verify``.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Return the 32-byte hash of one leaf: ``SHA-256(0x00 || leaf)``."""
    return sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of a node over two subtrees: ``SHA-256(0x01 || left || right)``."""
    return sha256(b"\1" + left + right).digest()


class Tree:
    """A tree that grows by leaves at its end. Held are only the roots of its complete subtrees, one per bit of the size."""

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves by their hashes; a node is hashed without a call, since this is done for every record."""
        size, subtrees = self.size, self._subtrees
        for leaf in leaves:
            root, complete = leaf, size
            while complete & 1:
                root = sha256(b"\1" + subtrees.pop() + root).digest()
                complete >>= 1
            subtrees.append(root)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """Return the 32-byte root over all leaves so far."""
        if not self._subtrees:
            return EMPTY_ROOT
        *others, root = self._subtrees
        for left in reversed(others):
            root = node_hash(left, root)
        return root


def root_of(hashes: Iterable[bytes]) -> bytes:
    """Return the root of the tree of these leaf hashes."""
    tree = Tree()
    tree.extend(hashes)
    return tree.root()
