"""kill -9 at thirty moments of rotating and rewrapping: one key writes, every root opens, every value opens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.crypto.seal import ColumnSpec, OpenMemo, draw_record, make_opener, make_sealer
from phiproxy.errors import DataKeyWant, WriteKeyWant
from phiproxy.keys import open_provider
from phiproxy.keys.anchoring import unlock, verify
from phiproxy.keys.key_service import KeyService
from phiproxy.keys.lifecycle import init
from phiproxy.keys.local import create_kek_file
from phiproxy.keys.registry_checked_on_read import Trust
from tests.keys.fakes import DEPLOYMENT, MRN, Clock, Site
from tests.keys.rotator import no_secrets

KILLS = 300 if os.environ.get("PHIPROXY_EXPLORE") else 30
SPEC = ColumnSpec(DEPLOYMENT, "", "d:mrn", 1)
# What must hold at every moment, whoever died where: rows that break it.
BROKEN = """
SELECT 'no active root' FROM phiproxy.root_key GROUP BY scope, tenant, purpose HAVING count(*) FILTER (WHERE state = 'active') <> 1
UNION ALL
SELECT 'an active data root without an active key' FROM phiproxy.root_key r WHERE purpose = 'data' AND state = 'active'
   AND (SELECT count(*) FROM phiproxy.data_key d WHERE d.root_id = r.id AND d.state = 'active') <> 1
UNION ALL
SELECT 'two keys pending' FROM phiproxy.data_key WHERE state = 'pending' GROUP BY root_id HAVING count(*) > 1
UNION ALL
SELECT 'two roots pending' FROM phiproxy.root_key WHERE state = 'pending' GROUP BY scope, purpose HAVING count(*) > 1
UNION ALL
SELECT 'a root without a wrap' FROM phiproxy.root_key r WHERE NOT EXISTS (SELECT FROM phiproxy.root_wrap w WHERE w.root_id = r.id)
UNION ALL
SELECT 'a key of an older root still writes' FROM phiproxy.data_key d JOIN phiproxy.root_key r ON r.id = d.root_id
 WHERE d.state = 'active' AND r.state <> 'active'
"""


@pytest.mark.slow
async def test_whoever_dies_where_the_registry_is_whole_and_every_value_opens(site: Site, tmp_path: Path, clock: Clock) -> None:
    kek = f"local:{tmp_path}/kek.json"
    await create_kek_file(kek, no_secrets)
    provider = await open_provider(kek, no_secrets)
    async with await site.connect() as conn:
        await init(conn, [MRN], DEPLOYMENT, provider)
        trust = Trust("phiproxy", await unlock(conn, "phiproxy", DEPLOYMENT, provider, None))
    values: list[bytes] = []
    command = [sys.executable, "-m", "tests.keys.rotator", site.dsn, kek, DEPLOYMENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as rotator:  # noqa: ASYNC220
        assert rotator.stdin is not None
        assert rotator.stdout is not None
        slower, before = 1.0, 0
        for number in range(KILLS):
            values.append(await seal_one(site, clock, kek, trust, len(values)))
            rotator.stdin.write(f"{slower * (0.02 + int.from_bytes(os.urandom(1), 'big') / 600)}\n")
            rotator.stdin.flush()
            assert rotator.stdout.readline() == "killed\n"
            assert site.run(BROKEN) == []
            async with await site.connect() as conn:
                assert await verify(trust, conn) == []
            if number % 10 == 9:  # a machine that has much else to do gives them too little time to get anywhere
                ((count,),) = site.run("SELECT count(*) FROM phiproxy.root_key")
                slower, before = slower * (1 if (there := int(str(count))) > before + 1 else 1.5), there
        rotator.stdin.close()
    await every_value_opens(site, clock, kek, trust, values)
    ((roots, keys),) = site.run("SELECT (SELECT count(*) FROM phiproxy.root_key), (SELECT count(*) FROM phiproxy.data_key)")
    assert int(str(roots)) > KILLS / 30, "the rotators were killed before they did anything"
    assert int(str(keys)) >= int(str(roots)) - 1


async def seal_one(site: Site, clock: Clock, kek: str, trust: Trust, number: int) -> bytes:
    provider = await open_provider(kek, no_secrets)
    async with site.registry(trust) as registry:
        ring = Keyring(clock)
        service = KeyService(registry, provider, ring, await registry.layout(), deployment=DEPLOYMENT, clock=clock)
        await service.fetch(frozenset({WriteKeyWant("d:mrn", 1)}))
        return make_sealer(SPEC)(b"M-%d" % number, draw_record(ring.reserve("d:mrn", 1)), b"")


async def every_value_opens(site: Site, clock: Clock, kek: str, trust: Trust, values: list[bytes]) -> None:
    provider = await open_provider(kek, no_secrets)
    async with site.registry(trust) as registry:
        ring = Keyring(clock)
        service = KeyService(registry, provider, ring, await registry.layout(), deployment=DEPLOYMENT, clock=clock)
        await service.fetch(frozenset(DataKeyWant(int.from_bytes(v[5:9], "big")) for v in values))
        opened = [make_opener(SPEC, ring, OpenMemo())(v) for v in values]
    assert opened == [b"M-%d" % i for i in range(len(values))]
