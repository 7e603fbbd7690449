"""Checkpoints as signed notes: what is spelled, and what is not believed."""

import base64
from datetime import UTC, datetime

import pytest

from phiproxy.audit.checkpoints import BadCheckpoint, Checkpoint, Signer, Verifier, opened
from phiproxy.errors import ConfigError

SIGNER = Signer("clinic-audit", bytes(range(32)))
CHECKPOINT = Checkpoint("clinic-audit/stem", 17, bytes(32), datetime(2026, 11, 27, 18, 46, 0, 120, tzinfo=UTC))


def test_a_note_is_spelled_as_c2sp_says() -> None:
    note = SIGNER.note(CHECKPOINT).decode()
    body, _, signature = note.partition("\n\n")
    assert body.split("\n") == [
        "clinic-audit/stem", "17", base64.b64encode(bytes(32)).decode(), "time 2026-11-27T18:46:00.000120Z",
    ]  # fmt: skip
    dash, name, blob = signature.rstrip("\n").split(" ")
    assert (dash, name) == ("—", "clinic-audit")
    raw = base64.b64decode(blob)
    assert len(raw) == 4 + 64
    assert raw[:4].hex() == SIGNER.verifier.text.split("+")[1]


def test_what_was_signed_is_opened_by_the_key_that_is_read_from_its_text() -> None:
    verifier = Verifier.read(SIGNER.verifier.text + "\n")
    assert opened(SIGNER.note(CHECKPOINT), [verifier]) == CHECKPOINT
    other = Signer("other", bytes(32)).verifier
    assert opened(SIGNER.note(CHECKPOINT), [other, verifier]) == CHECKPOINT


def test_the_id_of_a_key_is_that_of_signed_notes() -> None:
    """The example of golang.org/x/mod/sumdb/note."""
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert Verifier.read(text).text == text
    note = (
        b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        b"\xe2\x80\x94 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    with pytest.raises(BadCheckpoint, match="not spelled as a checkpoint"):
        opened(note, [Verifier.read(text)])


@pytest.mark.parametrize("at", range(0, len(SIGNER.note(CHECKPOINT)) - 1, 3))
def test_a_changed_note_is_not_believed(at: int) -> None:
    note = bytearray(SIGNER.note(CHECKPOINT))
    note[at] ^= 1
    with pytest.raises(BadCheckpoint):
        opened(bytes(note), [SIGNER.verifier])


def test_another_key_is_not_believed() -> None:
    with pytest.raises(BadCheckpoint, match="none of the given keys"):
        opened(Signer("clinic-audit", bytes(32)).note(CHECKPOINT), [SIGNER.verifier])


@pytest.mark.parametrize("text", ["", "name", "name+00000000+AAAA", SIGNER.verifier.text[:-2], "x" + SIGNER.verifier.text])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Verifier.read(text)
