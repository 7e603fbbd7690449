"""Anchors of checkpoints, by a time stamp authority that the test runs (``openssl ts``) and by moto's KMS; verified offline."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from structlog.testing import capture_logs

from phiproxy.audit.anchors import AnchorTarget, anchors_in, witnesses
from phiproxy.audit.checkpoints import Checkpoint, Signer
from phiproxy.audit.group_commit import AuditLog
from phiproxy.audit.log_files import ANCHORS
from phiproxy.audit.merkle_hash_tree import leaf_hash, root_of
from phiproxy.audit.open_log_file import CHECKPOINTS, HASHES, RECORDS
from phiproxy.audit.verify import Verified, verify
from phiproxy.audit.verify_anchors import Witnessed
from phiproxy.errors import ConfigError
from tests.audit.test_group_commit import SEED, durable, start
from tests.audit.test_verify import only
from tests.harness.proxy import run_cli
from tests.keys.providers import parts

SIGNER = Signer("clinic-audit", SEED)
CONFIG = """\
[tsa]
default_tsa = own
[own]
serial = {home}/serial
crypto_device = builtin
signer_cert = {home}/tsa.crt
signer_key = {home}/tsa.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha512
ess_cert_id_chain = no
[stamps]
extendedKeyUsage = critical, timeStamping
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
"""


class Authority(ThreadingHTTPServer):
    """A time stamp authority: openssl answers each query."""

    daemon_threads = True

    def __init__(self, home: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._one_by_one = threading.Lock()
        self.home, self.config, self.root = home, home / "openssl.cnf", home / "ca.crt"
        self.change: Callable[[bytes], bytes] = lambda answer: answer
        self.speaks_http = True
        self.config.write_text(CONFIG.format(home=home))
        (home / "serial").write_text("01\n")
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=CA",
                      "-days", "30", "-config", str(self.config), "-extensions", "ca")  # fmt: skip
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Stamps",
                      "-config", str(self.config))  # fmt: skip
        self._openssl("x509", "-req", "-in", "tsa.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "tsa.crt",
                      "-days", "30", "-extfile", str(self.config), "-extensions", "stamps")  # fmt: skip
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.home, check=True, capture_output=True)

    def answer(self, query: bytes) -> bytes:
        with self._one_by_one:  # several processes may ask
            (self.home / "query").write_bytes(query)
            self._openssl("ts", "-reply", "-queryfile", "query", "-out", "reply", "-config", str(self.config))
            return self.change((self.home / "reply").read_bytes())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/tsa"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/timestamp-query"
        authority = cast("Authority", self.server)
        if not authority.speaks_http:
            self.wfile.write(b"no HTTP at all\r\n\r\n")
            return
        answer = authority.answer(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    serving = Authority(tmp_path_factory.mktemp("tsa"))
    yield serving
    serving.shutdown()
    serving.server_close()


@pytest.fixture(scope="module")
def kms() -> Iterator[tuple[str, Any]]:
    with parts.aws_credentials(), parts.kms() as found:
        yield found


def target(**fields: Any) -> dict[str, Any]:
    return {"tsa": None, "kms": None, "region": None, "endpoint": None, "every": 0.01, "timeout": 10.0, **fields}


async def written(directory: Path, anchor: dict[str, Any]) -> AuditLog:
    log = AuditLog(start(directory, anchor=anchor), on_failure="refuse", interval=60)
    await log.open({})
    for number in range(5):
        assert await durable(log, log.event("login", {"number": number}))
    await log.close()
    return log


def anchored_log(directory: Path, anchor: dict[str, Any]) -> Path:
    """Write a log whose checkpoints are anchored, and return its file of anchors."""
    asyncio.run(written(directory, anchor))
    return only(directory, ANCHORS)


def verified(directory: Path, witnessed: Witnessed | None = None) -> Verified:
    return verify(directory, [SIGNER.verifier], witnessed=witnessed)


def test_time_stamps_are_verified_offline(authority: Authority, tmp_path: Path) -> None:
    path = anchored_log(tmp_path, target(tsa=authority.url))
    result = verified(tmp_path, Witnessed.read([authority.root], []))
    assert result.faults == []
    assert result.anchored >= 1
    assert result.stamped is not None
    assert abs(datetime.now(UTC) - result.stamped) < timedelta(minutes=1)
    without = verified(tmp_path)
    assert (without.anchored, without.faults) == (0, [])
    assert "are not verified: --tsa-root" in without.notes[0].text
    key = SIGNER.verifier.text
    done = run_cli("audit", "verify", str(tmp_path), "--key", key, "--tsa-root", str(authority.root), check=True)
    assert "anchors are genuine, last stamped 20" in done.stdout
    # Another authority, and a stamp of something else.
    other = Authority(_made(tmp_path.parent / "other"))
    try:
        assert "not genuine" in verified(tmp_path, Witnessed.read([other.root], [])).faults[0].text
    finally:
        other.shutdown()
        other.server_close()
    (first, *_) = anchors_in(path.read_bytes())
    notes = only(tmp_path, CHECKPOINTS).read_bytes().split(b"\n\n\n")
    digests = [sha256(note + b"\n").hexdigest() for note in notes[:-1]]
    elsewhere = next(digest for digest in digests if digest != first["note"])
    path.write_text(json.dumps({**first, "note": elsewhere}) + "\n")
    assert "not genuine" in verified(tmp_path, Witnessed.read([authority.root], [])).faults[0].text


def test_heads_that_were_cut_off_are_told_by_their_anchors(authority: Authority, tmp_path: Path) -> None:
    path = anchored_log(tmp_path, target(tsa=authority.url))
    (anchor, *_) = anchors_in(path.read_bytes())
    assert anchor["kind"] == "rfc3161"
    # Whoever holds the key signs anew what he likes, but nobody has stamped that.
    records = only(tmp_path, RECORDS)
    lines = records.read_bytes().splitlines()
    forged = [leaf_hash(line) for line in lines]
    note = SIGNER.note(Checkpoint(f"{SIGNER.name}/{records.stem}", len(lines), root_of(forged), datetime.now(UTC)))
    only(tmp_path, CHECKPOINTS).write_bytes(note + b"\n\n")
    only(tmp_path, HASHES).write_bytes(b"".join(forged))
    faults = verified(tmp_path).faults
    assert [fault.text for fault in faults] == [
        f"anchor {number} is of a checkpoint that is not there: checkpoints were cut off or changed"
        for number in range(1, 1 + len(anchors_in(path.read_bytes())))
    ]


@pytest.mark.parametrize(("spec", "algorithm"), [("ECC_NIST_P256", "ECDSA_SHA_256"), ("RSA_2048", "RSASSA_PSS_SHA_256")])
def test_kms_signs(kms: tuple[str, Any], tmp_path: Path, spec: str, algorithm: str) -> None:
    endpoint, client = kms
    arn = client.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    path = anchored_log(_made(tmp_path / "log"), target(kms=arn, endpoint=endpoint))
    assert {anchor["algorithm"] for anchor in anchors_in(path.read_bytes())} == {algorithm}
    pem = tmp_path / "kms.pem"
    public = load_der_public_key(client.get_public_key(KeyId=arn)["PublicKey"])
    pem.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    result = verified(path.parent, Witnessed.read([], [pem]))
    assert (result.faults, result.stamped) == ([], None)
    assert result.anchored >= 1
    other = client.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    public = load_der_public_key(client.get_public_key(KeyId=other)["PublicKey"])
    pem.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert "none of the keys has signed it" in verified(path.parent, Witnessed.read([], [pem])).faults[0].text


def test_what_is_no_stamp_is_not_kept(authority: Authority) -> None:
    (stamps,) = witnesses(AnchorTarget(**target(tsa=authority.url)))
    for change, why in ((lambda answer: answer[:-200], "no time stamp"), (lambda _: b"<html>", "no time stamp")):
        authority.change = change
        with pytest.raises(OSError, match=why):
            stamps.anchor(b"checkpoint")
    first = authority.home / "reply"
    authority.change = lambda answer: answer
    kept = stamps.anchor(b"checkpoint")
    assert kept["kind"] == "rfc3161"
    replayed = first.read_bytes()
    authority.change = lambda _: replayed
    with pytest.raises(OSError, match="of something else"):
        stamps.anchor(b"another checkpoint")
    authority.change = lambda answer: answer


def test_a_log_goes_on_without_its_witnesses(tmp_path: Path) -> None:
    log = asyncio.run(written(tmp_path, target(tsa="http://127.0.0.1:9/")))
    assert list(tmp_path.glob(f"*{ANCHORS}")) == []
    assert not log.failures
    assert verified(tmp_path).faults == []


async def test_whatever_a_witness_says_the_next_checkpoint_is_tried_and_it_is_said_and_counted(
    authority: Authority, tmp_path: Path
) -> None:
    """What is no HTTP is no OSError of Python's, nor is a region that boto3 does not find."""
    authority.speaks_http = False
    anchor = target(tsa=authority.url, kms="alias/audit")
    log = AuditLog(start(tmp_path, anchor=anchor), on_failure="refuse", interval=0.05)
    with pytest.MonkeyPatch.context() as patch, capture_logs() as logged:
        for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        await log.open({})
        await until(lambda: log.undelivered.get("anchor", 0) > 1)
        await log.close()
    assert {entry["why"] for entry in logged if entry.get("destination") == "anchor"} == {"NoRegionError"}

    log = AuditLog(start(tmp_path, anchor=target(tsa=authority.url)), on_failure="refuse", interval=0.05)
    with capture_logs() as logged:
        await log.open({})
        await until(lambda: log.undelivered.get("time stamps", 0) > 1)
        authority.speaks_http = True
        await until(lambda: any(entry["event"] == "audit records arrive again" for entry in logged))
        await log.close()
    assert [entry.get("why") for entry in logged if entry.get("destination") == "time stamps"] == [
        "no time stamp: BadStatusLine", None,
    ]  # fmt: skip
    assert verified(tmp_path, Witnessed.read([authority.root], [])).anchored >= 1


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():
            await asyncio.sleep(0.02)


def test_what_is_no_certificate_and_no_key_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    with pytest.raises(ConfigError, match="no certificate in PEM"):
        Witnessed.read([path], [])
    with pytest.raises(ConfigError, match="no public key in PEM"):
        Witnessed.read([], [path])


def _made(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory
