"""A client that says everything in one breath: the replies still come, in order, before the connection ends."""

from __future__ import annotations

import os
import socket

import psycopg

from phiproxy.wire.messages import TERMINATE, encode_query
from tests.harness.clinic import Clinic


def everything_said_at_once(dsn: str, text: bytes) -> bytes:
    """Log in, send a Query and Terminate in one packet, and return what comes until the end."""
    with psycopg.connect(dsn) as conn, socket.socket(fileno=os.dup(conn.fileno())) as wire:
        wire.setblocking(True)
        wire.settimeout(240)
        wire.sendall(encode_query(text) + TERMINATE)
        received = b""
        while chunk := wire.recv(65536):
            received += chunk
        conn.pgconn.finish()
        return received


def test_replies_before_terminate_arrive(clinic: Clinic) -> None:
    patient = clinic.seed(1)[0]
    received = everything_said_at_once(clinic.proxy_dsn, b"SELECT ssn, city FROM patients; SELECT 7")
    assert patient.ssn.encode() in received
    assert received.count(b"SELECT 1\0") == 2
    assert received.endswith(b"Z\0\0\0\x05I")
