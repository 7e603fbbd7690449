"""The tree: against pymerkle, and against the test vectors of Certificate Transparency."""

import pymerkle
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.audit.merkle_hash_tree import EMPTY_ROOT, Tree, leaf_hash, root_of

# The leaves and roots of RFC 6962's reference implementation (certificate-transparency, merkletree tests).
LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def test_reference_vectors() -> None:
    tree = Tree()
    assert tree.root() == EMPTY_ROOT
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        tree.extend([leaf_hash(bytes.fromhex(leaf))])
        assert tree.root().hex() == root
    assert tree.size == len(LEAVES)


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_roots_are_those_of_pymerkle(leaves: list[bytes]) -> None:
    other = pymerkle.InmemoryTree(algorithm="sha256")
    tree = Tree()
    for leaf in leaves:
        other.append_entry(leaf)
        tree.extend([leaf_hash(leaf)])
        assert tree.root() == other.get_state()
    assert root_of(map(leaf_hash, leaves)) == tree.root()


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40, unique=True), st.data())
def test_any_change_is_another_root(leaves: list[bytes], data: st.DataObject) -> None:
    root = root_of(map(leaf_hash, leaves))
    at = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves]
    changed[at] += b"!"
    assert root_of(map(leaf_hash, changed)) != root
    assert root_of(map(leaf_hash, leaves[:at] + leaves[at + 1 :])) != root
    assert root_of(map(leaf_hash, [*leaves, leaves[at]])) != root
    if at:
        swapped = [*leaves]
        swapped[at - 1], swapped[at] = swapped[at], swapped[at - 1]
        assert root_of(map(leaf_hash, swapped)) != root
