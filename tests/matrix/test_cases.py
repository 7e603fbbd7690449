"""The cases are the same in every run, reach every cell's neighbourhood, and can be made again, or simpler, from their choices."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import pytest

from tests.harness.proxy import ROOT
from tests.matrix.axes import PROTECTED, TYPES
from tests.matrix.cases import ZONES, Met, case, drawn, met
from tests.matrix.contexts import CONDITIONS, READS, WRITES
from tests.matrix.draws import Draw
from tests.matrix.given import LITERALS, PARAMETERS

COUNT = 20_000
_DIGEST = """\
import hashlib
from tests.matrix.cases import case
print(hashlib.sha256(repr([case(3, n) for n in range(300)]).encode()).hexdigest())
"""


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_a_case_is_the_same_whatever_the_hashes_are(seed: str) -> None:
    expected = hashlib.sha256(repr([case(3, n) for n in range(300)]).encode()).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", _DIGEST],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected


def test_a_case_is_made_again_from_its_choices() -> None:
    for number in range(300):
        made = case(5, number)
        assert drawn(Draw(choices=made.choices), made.zone) == made


def test_nothing_chosen_is_the_simplest() -> None:
    simplest = drawn(Draw(choices=()), ZONES[0])
    assert simplest.statement == "SELECT m.id FROM m WHERE (c_i4 = '1')"
    assert simplest.way == "simple"


def test_what_is_left_out_of_them_adds_nothing() -> None:
    every, told = [case(0, number) for number in range(1000)], Met()
    kept = [each for each in every if told.adds(each)]
    assert len(kept) < len(every)
    assert set().union(*map(met, kept)) == set().union(*map(met, every)) == told.seen
    assert not told.adds(every[0])


def test_every_axis_is_reached() -> None:
    seen: Counter[tuple[str, str]] = Counter()
    for number in range(COUNT):
        made = case(0, number)
        seen.update(
            {("context", made.context), ("operator", made.operator), ("left", made.left), ("way", made.way), ("zone", made.zone)}
        )
        seen.update(("right", key) for key in made.right)
        seen.update(("given", given.partition(":")[0]) for given in made.given)
        seen.update(("declared", p.declared.removesuffix("[]")) for p in made.parameters)
        seen.update({("binary", str(p.binary)) for p in made.parameters})
    expected = [
        *(("context", c.name) for c in (*READS, *WRITES)),
        *(("operator", name) for name in (*CONDITIONS, "-")),
        *(("left", t.key) for t in PROTECTED),
        *(("right", t.key) for t in TYPES),
        *(("given", way) for way in {*LITERALS, *PARAMETERS}),
        *(("declared", key) for key in ("", *(t.key for t in TYPES))),
        *(("way", way) for way in ("simple", "extended", "named", "execute")),
        *(("zone", zone) for zone in ZONES),
        *(("binary", flag) for flag in ("True", "False")),
    ]
    rare = {key: seen[key] for key in expected if seen[key] < COUNT // 500}
    assert not rare
