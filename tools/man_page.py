"""Write man/phiproxy.1 from the command line's own help: ``python tools/man_page.py``. A test says when it is due."""

import re
import textwrap
from pathlib import Path
from typing import Any

import typer.main

from phiproxy import __version__, cli

ROOT = Path(__file__).parents[1]

_HEAD = """\
.\\" Written by tools/man_page.py from the help of the commands.
.TH PHIPROXY 1 "{date}" "phiproxy {version}" "User Commands"
.SH NAME
phiproxy \\- PostgreSQL proxy that encrypts health data by column, or refuses
.SH SYNOPSIS
.B phiproxy
.I COMMAND
.RI [ OPTION ]...
.SH DESCRIPTION
phiproxy stands between an application and PostgreSQL.
The columns that a YAML policy lists are encrypted before they reach the
database and decrypted on the way back.
A statement that may touch a protected column in a way that is not
understood is refused.
.SH COMMANDS
"""
_TAIL = """\
.SH EXIT STATUS
.TP
.B 0
All is well.
.TP
.B 1
What was asked about is wrong, or the command failed; standard error says why.
.TP
.B 2
Wrong usage.
.SH SIGNALS OF PHIPROXY SERVE
.TP
.BR SIGTERM ", " SIGINT
Take no new clients, let those at work finish, then end.
A second one ends at once.
.TP
.B SIGHUP
Read policies, certificates, verifiers and keys again: all of it, or nothing
where something is wrong.
.SH ENVIRONMENT
.TP
.B PHIPROXY_CONFIG
phiproxy.yaml, where no \\-c is given.
.TP
.B PHIPROXY_SERVICE_PASSWORD
The password of the proxy's own login, where service.password names no other
secret.
.TP
.BR NOTIFY_SOCKET ", " WATCHDOG_USEC ", " STATE_DIRECTORY
Set by systemd: it is told of the start, of reloads and of the end.
.SH FILES
.TP
.I phiproxy.yaml
How the proxy runs.
.TP
.I policy.yaml
What is protected in one database.
.PP
Examples of both, with every key, and the documentation are in the directory
that
.B phiproxy \\-\\-help
names.
.SH SEE ALSO
.BR psql (1),
.BR systemd.service (5)
"""


def page() -> str:
    """Return the page."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (date,) = re.findall(rf"^## {re.escape(__version__)} – (\S+)$", changes, re.MULTILINE)
    top = typer.main.get_command(cli.app)
    return _HEAD.format(version=__version__, date=date) + "".join(_commands(top, "phiproxy")) + _TAIL


def _commands(group: Any, name: str) -> list[str]:
    lines = []
    for key, command in sorted(group.commands.items()):
        full = f"{name} {key}"
        if hasattr(command, "commands"):
            lines += _commands(command, full)
            continue
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        usage = "".join(f" {each.metavar}" if each.required else f" [{each.metavar}]" for each in arguments)
        lines.append(f'.SS "{_escaped(full + usage)}"\n{_filled(command.help)}\n')
        lines += [f".TP\n.B {_escaped(_spelled(each))}\n{_filled(_explained(each))}\n" for each in command.params]
        lines.append(f".PP\n{_filled(command.epilog)}\n")
    return lines


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    value = "" if parameter.is_flag else f" {parameter.metavar or 'N'}"
    return ", ".join(sorted(parameter.opts, key=len)) + value


def _explained(parameter: Any) -> str:
    default = parameter.default
    shown = "" if default in (None, False) else f" Default: {default}."
    return parameter.help.rstrip(".") + "." + shown


def _filled(text: str) -> str:
    lines = textwrap.wrap(_escaped(text), 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)


def _escaped(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("\\", "\\e").replace("-", "\\-")


if __name__ == "__main__":
    (ROOT / "man" / "phiproxy.1").write_text(page(), encoding="utf-8")
