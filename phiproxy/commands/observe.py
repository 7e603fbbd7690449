"""``phiproxy observe``: what would become of an application's statements if the columns of the policy were sealed."""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from phiproxy.commands.command_context import database as connected
from phiproxy.commands.command_context import load, print_json
from phiproxy.errors import CatalogNeeded, ConfigError, KeyNeeded, PathNeeded, StatementRefused, SyntaxRefused
from phiproxy.keys.observations import Counted, Observed, forget_observed, read_observed, wanted_indexes
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.observation import observed_of, usual_path
from phiproxy.ops.statement_sources import STATEMENTS, statements_of
from phiproxy.plan.forecast import Forecast, forecast, forecaster
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.policy.bind import bind
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import as_if_sealed
from phiproxy.policy.identifiers import yaml_text
from phiproxy.policy.imagined_layout import imagined_layout
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings
from phiproxy.policy.user_types import indexed_as
from phiproxy.sql.text.parse import parse

_OF_CONSTANTS = "In pg_stat_statements $1 stands for constants too; with a constant it may be answered: the server's log tells."
_NO_SQL = Forecast(
    "refused",
    reason="pg_stat_statements has $1 where SQL wants a word: what would become of it cannot be said",
    hint="A log of the server's tells.",
)
_WORDS = {"works": "works", "split": "split: a part is computed by the proxy", "refused": "refused"}


async def report(config: Path, only: str | None, *, as_json: bool, forget: bool) -> int:
    """Print what proxies have observed; ``forget`` it then."""
    configuration = load(config)
    policy, settings = configuration.policy_of(only), configuration.settings
    async with connected(settings, policy) as conn:
        counts = await read_observed(conn, settings.service.schema_)
        _print(counts, as_json=as_json)
        if forget:
            await forget_observed(conn, settings.service.schema_)
    return 0


async def observe(config: Path, source: str, only: str | None, *, as_json: bool) -> int:
    """Print what would become of the statements of a source. No registry is needed, and nothing is kept."""
    configuration = load(config)
    policy = configuration.policy_of(only)
    async with connected(configuration.settings, policy) as conn:
        texts = await statements_of(conn, source)
        catalog = await read_catalog(conn, {(c.schema, c.table) for c in policy.columns()}, None)
    if not texts:
        raise ConfigError(f"{source} has no statement", hint="Set log_statement = all for a while.")
    counted = await asyncio.to_thread(_counted, configuration.settings, policy, catalog, texts, source)
    _print(counted, as_json=as_json)
    return 0


def _counted(settings: Settings, policy: Policy, catalog: Catalog, texts: Counter[bytes], source: str) -> list[Counted]:
    layout = imagined_layout(policy, partial(indexed_as, types=catalog.types))
    protection, sealed = as_if_sealed(bind(policy, layout, catalog, settings.service.schema_), catalog)
    engine = EngineFacts() if settings.compute.engine != "off" else None
    planner = forecaster(protection, sealed, engine, policy.database)
    path = usual_path(protection)
    counts: Counter[Observed] = Counter()
    for text, sent in texts.items():
        try:
            foreseen = forecast(planner, text, (), path, policy.database)
        except (CatalogNeeded, PathNeeded, KeyNeeded):
            continue  # it names what is not there
        if source == STATEMENTS and b"$" in text:
            if foreseen is None and planner.screen.mentions(text) and not _is_sql(text):
                foreseen = _NO_SQL
            elif foreseen is not None and foreseen.fate != "works":
                foreseen = replace(foreseen, hint=f"{foreseen.hint} {_OF_CONSTANTS}".strip())
        observed = observed_of(text, foreseen) if foreseen is not None else None
        if observed is not None:
            counts[observed] += sent
    order = list(_WORDS)[::-1]
    listed = [Counted(observed, sent) for observed, sent in counts.items()]
    return sorted(listed, key=lambda c: (order.index(c.observed.answer), -c.sent, c.observed.shape))


def _is_sql(text: bytes) -> bool:
    """Tell whether a text is SQL: others would name a column of a policy and be told of by nobody."""
    try:
        parse(text)
    except SyntaxRefused:
        return False
    except StatementRefused:
        pass
    return True


def _print(counts: Sequence[Counted], *, as_json: bool) -> None:
    wanted = wanted_indexes(counts)
    if as_json:
        print_json({"statements": [counted.as_json() for counted in counts], "indexes": wanted})
        return
    if not counts:
        sys.stdout.write("no statement over a column of the policy was seen\n")
        return
    for counted in counts:
        observed = counted.observed
        sys.stdout.write(f"{observed.answer:8}{counted.sent:>10}  {observed.shape}\n")
        for text in (observed.reason, f"hint: {observed.hint}" if observed.hint else ""):
            sys.stdout.write(f"{'':20}{text}\n" if text else "")
    sys.stdout.write("\n" + "\n".join([*_sums(counts), *_index_lines(wanted)]) + "\n")


def _sums(counts: Sequence[Counted]) -> Iterable[str]:
    for answer, words in _WORDS.items():
        own = [counted.sent for counted in counts if counted.observed.answer == answer]
        if own:
            yield f"{words}: {len(own)} shapes, sent {sum(own)} times"


def _index_lines(wanted: dict[str, dict[str, int]]) -> Iterable[str]:
    if wanted:
        yield "\nThese lines of the policy would help (each index tells something: phiproxy check says what):"
    for column in sorted(wanted):
        by_use = sorted(wanted[column].items(), key=lambda entry: -entry[1])
        expressions = ", ".join(yaml_text(expression) for expression, _ in by_use)
        sent = ", ".join(f"{number} sent" for _, number in by_use)
        yield f"  {yaml_text(column)}:  indexes: [{expressions}]   # beside those it has; {sent}"
