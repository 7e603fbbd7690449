"""What was done under a broken glass, and who signs it off: made of records, and records again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from phiproxy.audit.break_glass_review import Glass, glasses, may_review, reviewable, sign_off
from phiproxy.audit.checkpoints import Signer
from phiproxy.audit.open_log_file import RECORDS
from phiproxy.audit.reading import records
from phiproxy.audit.records import BREAK_GLASS, REVIEWED, line_of, numbered
from phiproxy.audit.verify import verify
from phiproxy.errors import ConfigError
from tests.audit import test_verify as whole_log
from tests.audit.test_verify import Clock, log, only

SIGNER = Signer("phiproxy-audit/test", b"s" * 32)
BROKEN = {
    "kind": "break_glass", "glass": "ab12", "login": "app", "role": "nurse", "user": {"how": "verified", "name": "jane"},
    "time": "2026-11-27T20:00:00.000000Z", "reason": "r", "seconds": 60,
}  # fmt: skip
LATER = {**BROKEN, "glass": "cd34", "time": "2026-11-27T21:00:00.000000Z"}


def test_those_that_nobody_has_signed_off() -> None:
    review = {"kind": REVIEWED, "glass": "ab12", "by": "officer", "time": "2026-11-27T22:00:00.000000Z"}
    again = {**review, "by": "other", "time": "2026-11-27T23:00:00.000000Z"}
    assert glasses([LATER, {"kind": "login"}, review, again, BROKEN]) == [Glass(BROKEN, review), Glass(LATER)]


@pytest.mark.parametrize("own", ["app", "nurse", "jane"])
def test_nobody_reviews_his_own(own: str) -> None:
    with pytest.raises(ConfigError, match="himself"):
        may_review(Glass(BROKEN), own)


def test_once_is_enough() -> None:
    may_review(Glass(BROKEN), "officer")
    with pytest.raises(ConfigError, match="was signed off by officer"):
        may_review(Glass(BROKEN, {"by": "officer", "time": "2026-11-27T22:00:00.000000Z"}), "other")


@pytest.mark.parametrize(("ago", "over"), [(0, False), (55, False), (61, True)])
def test_what_may_yet_be_seen_is_not_signed_off(ago: float, over: bool) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=ago)
    glass = Glass({**BROKEN, "time": begun.isoformat().replace("+00:00", "Z")})
    if over:
        may_review(glass, "officer")
        return
    with pytest.raises(ConfigError, match=f"ab12 may lift masks until {glass.until:%Y-%m-%d %H:%M:%S}"):
        may_review(glass, "officer")


def test_a_sign_off_that_is_not_signed_counts_for_nothing(tmp_path: Path) -> None:
    """Behind the records of a proxy, in a file of its own, by another key; nor does a forged record stand for a signed one."""

    def found() -> list[tuple[str, str | None]]:
        log_now = reviewable(tmp_path, [signer.verifier])
        return [(str(glass.record["reason"]), (glass.review or {}).get("by")) for glass in glasses(log_now)]

    signer = whole_log.SIGNER

    files = log(tmp_path, Clock())
    files.append([line_of(BREAK_GLASS, {"glass": "ab12", "seconds": 60, "reason": "genuine"})])
    files.checkpoint()
    unsigned = line_of(BREAK_GLASS, {"glass": "cd34", "seconds": 60, "reason": "not signed yet"})
    files.append([unsigned])
    path = only(tmp_path, RECORDS)
    reviews = [line_of(REVIEWED, {"glass": glass, "by": "nobody", "note": "n"}) for glass in ("ab12", "cd34")]
    forged = [*reviews, line_of(BREAK_GLASS, {"glass": "ab12", "seconds": 60, "reason": "forged"})]
    lines = b"".join(numbered(line, number) + b"\n" for number, line in enumerate(forged, start=4))
    path.write_bytes(path.read_bytes().rstrip(b"\0") + lines)
    (tmp_path / f"20261127T120001.000000Z.proxy-1.review{RECORDS}").write_bytes(lines)
    sign_off(tmp_path, "one", Signer(signer.name, bytes(32)), {"glass": "ab12", "by": "another key", "note": "n"})
    assert found() == [("genuine", None), ("not signed yet", None)]
    sign_off(tmp_path, "proxy-1", signer, {"glass": "ab12", "by": "officer", "note": "n"})
    assert found() == [("genuine", "officer"), ("not signed yet", None)]


def test_reviews_are_signed_one_behind_the_other(tmp_path: Path) -> None:
    for name in ("ab12", "cd34"):
        sign_off(tmp_path, "one", SIGNER, {"glass": name, "by": "officer", "note": "n"})
    written = [record for record in records(tmp_path) if record["kind"] == REVIEWED]
    assert [(r["glass"], r["by"], r["proxy"], r["writer"]) for r in written] == [
        (name, "officer", "one", "review") for name in ("ab12", "cd34")
    ]
    proven = verify(tmp_path, [SIGNER.verifier], datetime.now(UTC))
    assert (proven.faults, proven.records) == ([], 6)
    first = min(tmp_path.glob("*.hashes")).stem
    for path in tmp_path.glob(f"{first}*"):
        path.unlink()
    assert verify(tmp_path, [SIGNER.verifier], datetime.now(UTC)).faults
