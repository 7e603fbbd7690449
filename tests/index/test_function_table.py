"""The rows of the table."""

from phiproxy.index.function_table import row, usages


def test_rows() -> None:
    found = row("left")
    assert found is not None
    assert (found.usage, found.constants, found.optional) == ("left(@,n)", (int,), 0)
    assert row("md5") is None
    assert "left(@,n)" in list(usages())
