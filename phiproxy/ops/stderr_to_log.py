"""Turns what would be written to standard error into lines of the log: libraries' loggers, warnings, uncaught exceptions.

A library's message may quote what it was given, so of most only what cannot hold a value is told: the text before its arguments,
the type of an exception, and where it was raised.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from types import TracebackType
from typing import TextIO

import structlog

log = structlog.get_logger("phiproxy")

# These two are told in full: our own, and the service login's, whose errors name addresses, roles and databases.
_TRUSTED = ("phiproxy", "psycopg")
# Up to where a message that was put together already may begin to quote.
_BEFORE_QUOTES = re.compile(r"[^<('\"\[{\n\d]*")


class Bridge(logging.Handler):
    """Hands records of the standard library's loggers on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a record."""
        say = log.error if record.levelno >= logging.ERROR else log.warning
        say(_text(record), logger=record.name, exc_info=record.exc_info)


def _text(record: logging.LogRecord) -> str:
    if record.name.partition(".")[0] in _TRUSTED:
        return " ".join(record.getMessage().split())
    text = str(record.msg)
    if not record.args:
        match = _BEFORE_QUOTES.match(text)
        text = match.group() if match is not None else ""
    return text.strip() or "a library says"


def take_over() -> None:
    """Have it so for this process; once is enough, twice does no harm."""
    root = logging.getLogger()
    if not any(isinstance(handler, Bridge) for handler in root.handlers):
        root.addHandler(Bridge())
    # Below it some libraries log statements, requests and answers.
    root.setLevel(logging.WARNING)
    logging.raiseExceptions = False  # a handler that fails would print a traceback
    warnings.showwarning = _warning
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _in_thread


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    where = "/".join(filename.replace("\\", "/").split("/")[-2:])
    log.warning("a library warns", category=category.__name__, place=f"{where}:{lineno}")


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        log.critical("uncaught exception", exc_info=error.with_traceback(trace))


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    log.error("an exception could not be raised", exc_info=args.exc_value)


def _in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        log.error("uncaught exception in a thread", exc_info=args.exc_value)
