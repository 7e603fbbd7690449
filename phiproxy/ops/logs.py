"""The proxy's own log: structlog to standard error. Who logs passes names and numbers, never a value."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from phiproxy.errors import place_of
from phiproxy.ops.stderr_to_log import take_over
from phiproxy.policy.settings import Log, Settings


def set_up_logging(settings: Log, stream: TextIO | None = None) -> bool:
    """Configure structlog for the process, and have what others would write to standard error told as lines of the log too.

    ``json`` for machines, ``console`` for people, ``auto`` by whether it is a terminal. Returns whether lines are JSON.
    """
    out = stream if stream is not None else sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _type_and_place,
    ]
    processors.append(structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=out.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    take_over()
    return as_json


def tell_of_restart(before: Settings, now: Settings) -> None:
    """Log which settings of a configuration that was read again are not gone by."""
    if waiting := before.waiting_for_restart(now):
        text = "settings were changed that take a restart: until then the proxy goes by what it was started with"
        structlog.get_logger("phiproxy").warning(text, settings=waiting)


def _type_and_place(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace an exception by its type and place: its text and its frames' variables may hold a value."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["place"] = place_of(error)
    return event
