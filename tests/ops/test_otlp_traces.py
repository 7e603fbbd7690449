"""Which span of the client a statement belongs to."""

import pytest

from phiproxy.ops.otlp_traces import parent_in, set_in

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("sent", "parent"),
    [
        (f"SELECT 1 /*traceparent='{PARENT}'*/", PARENT),
        (f"SELECT 1 /*application='x',traceparent='{PARENT}',framework='django'*/", PARENT),
        (f"SELECT '{PARENT}'", ""),
        (f"SELECT 1 /*traceparent='{PARENT[:-4]}'*/", ""),
        ("SELECT 1", ""),
    ],
)
def test_of_a_comment(sent: str, parent: str) -> None:
    assert parent_in(b"Q\0\0\0\x10" + sent.encode() + b"\0") == parent


@pytest.mark.parametrize(
    ("sent", "parent"),
    [
        (f"SET LOCAL app.traceparent = '{PARENT}'", PARENT),
        (f'set local "app"."traceparent" to \'{PARENT}\'', PARENT),
        (f"SET app.traceparent = '{PARENT}'", ""),
        (f"SELECT 1 /*traceparent='{PARENT}'*/", ""),
    ],
)
def test_of_a_setting(sent: str, parent: str) -> None:
    assert set_in(sent.encode()) == parent
