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
        # The root of the complete subtree over 2 ** level leaves, where the size has this bit.
        self._roots: list[bytes | None] = []

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves by their hashes, level by level; a node is hashed without a call, since this is done for every record."""
        nodes, roots, level = list(leaves), self._roots, 0
        self.size += len(nodes)
        while nodes:
            if level == len(roots):
                roots.append(None)
            left = roots[level]
            if left is not None:
                nodes.insert(0, left)
            roots[level] = nodes.pop() if len(nodes) & 1 else None
            pairs = iter(nodes)
            nodes = [sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
            level += 1

    def root(self) -> bytes:
        """Return the 32-byte root over all leaves so far."""
        complete = [root for root in self._roots if root is not None]
        if not complete:
            return EMPTY_ROOT
        root, *others = complete
        for left in others:
            root = node_hash(left, root)
        return root


def root_of(hashes: Iterable[bytes]) -> bytes:
    """Return the root of the tree of these leaf hashes."""
    tree = Tree()
    tree.extend(hashes)
    return tree.root()
