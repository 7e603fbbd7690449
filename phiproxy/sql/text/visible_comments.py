"""Comments in a statement that touches something protected: which of them the server may see.

Applications write what they like into comments, such as a route with a patient's number, and a value that is bound later cannot be
searched for. So only what cannot be a value stays: hints of pg_hint_plan about names of the statement, and pairs of sqlcommenter of
known form. Everything else is replaced by blanks of the same length, so positions stay.
"""

import re
from collections.abc import Collection, Iterator
from urllib.parse import unquote

_NAME = r"[A-Za-z_][\w$]*"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_METHODS = (
    "(?:No)?(?:Seq|Tid|Index|IndexOnly|Bitmap)Scan|(?:Index|IndexOnly|Bitmap)ScanRegexp"
    "|(?:No)?(?:NestLoop|HashJoin|MergeJoin|Memoize)|Leading|DisableIndex"
)
# Names, and names in brackets: an order of joins of up to five relations.
_NESTED = r"[\s\w$]*"
for _ in range(4):
    _NESTED = rf"(?:[\s\w$]|\({_NESTED}\))*"
_PLANNER_SETTINGS = (
    r"enable_[a-z_]+|(?:seq_page|random_page|cpu_tuple|cpu_index_tuple|cpu_operator|parallel_setup|parallel_tuple)_cost"
    r"|geqo[a-z_]*|(?:from|join)_collapse_limit|work_mem|hash_mem_multiplier|jit[a-z_]*|effective_cache_size"
    r"|max_parallel_workers_per_gather|min_parallel_(?:table|index)_scan_size|default_statistics_target"
)
# One hint: a method over names; Rows(a b #10), Parallel(a 4 hard), Set(enable_seqscan off).
_HINT = re.compile(
    rf"\s*(?:(?:{_METHODS})\s*\((?P<method>{_NESTED})\)"
    rf"|Rows\s*\(\s*(?P<rows>{_NAME}(?:\s+{_NAME})*)\s+[#*+-]\s*(?P<correction>{_NUMBER})\s*\)"
    rf"|Parallel\s*\(\s*(?P<parallel>{_NAME})\s+[0-9]{{1,2}}(?:\s+(?:hard|soft))?\s*\)"
    rf"|Set\s*\(\s*(?:{_PLANNER_SETTINGS})\s+(?:on|off|(?P<setting>{_NUMBER}))\s*\))",
    re.IGNORECASE | re.ASCII,
)
_WORD = re.compile(r"[\w$]+")

_PAIR = re.compile(r"\s*([\w.%-]+)='([^']*)'\s*(,|\Z)", re.ASCII)
_SOFTWARE = (
    r"activerecord|aiohttp|asyncpg|database/sql|diesel|django(?:\.db\.backends\.postgresql(?:_psycopg2)?)?|dropwizard|entityframework"
    r"|express|fastapi|fastify|flask|gorm|hibernate|jdbc|jooq|knex|laravel|micronaut|mybatis|nestjs|npgsql|odoo|pg|pgx|postgresql"
    r"|prisma|psycopg[23]?|pyramid|quarkus|rails|sequelize|spring|sqlalchemy|sqlx|starlette|symfony|tornado|typeorm"
)
# What applications are written with is a short list; a version is digits and dots.
_OF_SOFTWARE = re.compile(rf"(?:{_SOFTWARE})(?:[:/ ][0-9]{{1,4}}(?:\.[0-9]{{1,4}}){{0,3}})?", re.IGNORECASE)
# Of each key the form of its value; of the second kind a value might be anything, so it stays only where nothing protected is
# bound later, and is compared with the literals.
_FORMS = {
    "traceparent": re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    "framework": _OF_SOFTWARE,
    "db_driver": _OF_SOFTWARE,
}
_STATE = r"[a-z0-9_*/@-]{1,64}=[\x21-\x2b\x2d-\x3c\x3e-\x7e]{1,128}"  # as W3C Trace Context has it
_FREE_FORMS = {
    "tracestate": re.compile(rf"{_STATE}(?:,{_STATE}){{0,7}}"),
    "application": re.compile(r"[A-Za-z][\w.-]{0,62}", re.ASCII),
}


def shown_comment(comment: bytes, values: Collection[bytes], names: Collection[str], *, bound: bool) -> bytes:
    """Return a comment as the server may see it, of the same length.

    ``values`` are the protected literals of the statement, ``names`` those of its relations, aliases and indexes. ``bound``:
    parameters meet protected columns, and their values are not known yet.

    ``/*+ SeqScan(p) */`` stays where ``p`` is a name; ``/*route='%2Fp%2F7',traceparent='00-…-01'*/`` keeps its second pair.
    """
    shown = ""
    try:
        text = comment.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text.startswith("/*+") and text.endswith("*/"):
        shown = text if _is_plain_hint(text[3:-2], values, names) else ""
    elif text.startswith("/*") and text.endswith("*/"):
        pairs = ",".join(_shown_pairs(text[2:-2], values, bound=bound))
        shown = f"/*{pairs}*/" if pairs else ""
    spelled = shown.encode()
    return spelled + blank(comment[len(spelled) :])


def blank(comment: bytes) -> bytes:
    """Return blanks for a comment, with its line ends."""
    return bytes(c if c in b"\r\n" else 32 for c in comment)


def _is_plain_hint(body: str, values: Collection[bytes], names: Collection[str]) -> bool:
    """Tell whether hints hold only names of the statement, words of pg_hint_plan, and numbers that are not protected."""
    end, numbers, words = 0, [], []
    while end < len(body.rstrip()):
        hint = _HINT.match(body, end)
        if hint is None:
            return False
        words += [word for group in ("method", "rows", "parallel") for word in _WORD.findall(hint[group] or "")]
        numbers += [n for n in (hint["correction"], hint["setting"]) if n is not None]
        end = hint.end()
    folded = {name.lower() for name in names}
    return bool(end) and all(word.lower() in folded for word in words) and not any(n.encode() in values for n in numbers)


def _shown_pairs(body: str, values: Collection[bytes], *, bound: bool) -> Iterator[str]:
    """Yield the pairs of an sqlcommenter comment that may stay; none of any other comment."""
    pairs, end = [], 0
    while end < len(body):
        pair = _PAIR.match(body, end)
        if pair is None:
            return
        pairs.append((pair[1], pair[2]))
        end = pair.end()
    forms = _FORMS if bound else _FORMS | _FREE_FORMS
    for key, spelled in pairs:
        form, value = forms.get(key), unquote(spelled)
        if form is not None and form.fullmatch(value) and not any(v in value.encode() for v in values if v):
            yield f"{key}='{spelled}'"
