"""The man page is that of the commands, and man(1) takes it."""

import runpy
import shutil
import subprocess

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "man" / "phiproxy.1"


def test_it_is_in_step_with_the_command_line() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "man_page.py"))["page"]()
    assert PAGE.read_text(encoding="utf-8") == page, "run: python tools/man_page.py"


def test_man_takes_it() -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", str(PAGE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    shown = subprocess.run(["mandoc", "-Tascii", str(PAGE)], capture_output=True, text=True, check=True).stdout
    assert "PHIPROXY(1)" in shown
