"""Which functions the engine answers as the server does: by their volatility, and of stable ones by name."""

from __future__ import annotations

import re

from phiproxy.policy.signatures import Function
from phiproxy.sql.split.tables_and_columns import is_catalog_type

# Stable functions that depend on nothing but their arguments and settings that the engine's session has too (engine.rest.MIRRORED).
_STABLE = """
    array_to_json array_to_string concat concat_ws convert convert_from convert_to date date_add date_part date_subtract
    date_trunc enum_first enum_last enum_range extract format generate_series json_agg json_agg_strict json_build_array
    json_build_object json_object_agg json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict
    json_populate_record json_populate_recordset json_to_record json_to_recordset jsonb_agg jsonb_agg_strict jsonb_build_array
    jsonb_build_object jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict
    jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_array_tz jsonb_path_query_first_tz jsonb_path_query_tz
    jsonb_populate_record jsonb_populate_recordset jsonb_to_record jsonb_to_recordset length make_timestamptz money numeric
    overlaps quote_literal quote_nullable row_to_json time timestamp timestamptz timetz timezone to_char to_date to_json
    to_jsonb to_number to_timestamp xml xml_is_well_formed
"""
_BY_SETTINGS = frozenset(_STABLE.split())
# Those that may be given the name of a text search configuration.
TEXT_SEARCH = frozenset(
    {
        "json_to_tsvector", "jsonb_to_tsvector", "phraseto_tsquery", "plainto_tsquery", "to_tsquery", "to_tsvector", "ts_headline",
        "websearch_to_tsquery",
    }
)  # fmt: skip
# Functions with another result at each call, in whatever order they are called.
VOLATILE = frozenset({"clock_timestamp", "gen_random_uuid", "timeofday", "uuidv4", "uuidv7"})
# Those of them whose results do not even tell in which order they were called.
UNORDERED = frozenset({"gen_random_uuid", "uuidv4"})
# Those whose results depend on the calls before: of a sequence, and of the session's random numbers, which setseed() begins anew.
DRAWN = frozenset({"currval", "lastval", "nextval", "random", "random_normal", "setval"})
AT_EACH_CALL = VOLATILE | DRAWN
# The text search configurations that PostgreSQL comes with.
_NAMES = """
    simple arabic armenian basque catalan danish dutch english finnish french german greek hindi hungarian indonesian irish italian
    lithuanian nepali norwegian portuguese romanian russian serbian spanish swedish tamil turkish yiddish
"""
CONFIGURATIONS = frozenset(name for of in _NAMES.split() for name in (of, f"pg_catalog.{of}"))
# Dates and times that mean a moment of the clock, which is the server's, where a string is read as one.
_CLOCK = re.compile(r"(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)


def means_clock(value: str) -> bool:
    """Tell whether a text may mean a moment of the clock where it is read as a date or time."""
    return _CLOCK.search(value) is not None


def is_settled(name: str, function: Function) -> bool:
    """Tell whether the engine answers a function of the server's own as the server does."""
    if (name == "age" and len(function.arguments) == 1) or name == "pg_typeof":
        return True  # the first has a date of the server's as another argument (values.server_values); types have the same names
    if function.volatile == "v" or function.kind not in "faw":
        return False
    if name in TEXT_SEARCH:
        return True  # what configuration it is given is looked at beside
    if any(is_catalog_type(oid) for oid in (*function.arguments, function.result)):
        return False
    return function.volatile == "i" or name in _BY_SETTINGS
