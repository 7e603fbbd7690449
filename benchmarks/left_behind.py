"""What a job has left in the large table, as the server has it: something readable, or under a key that was answered for."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.job_phases import Owner

READABLE = "substring({column}, 1, 3) IS DISTINCT FROM '\\xf55001'"
OF_KEY = "encode(substring({column}, 6, 4), 'hex')"
# A key that has sealed as many values as it may is decrypt_only: it was not answered for.
GOOD = "SELECT lpad(to_hex(id), 8, '0') FROM phiproxy.data_key WHERE state IN ('active', 'decrypt_only')"
ENDED = "SELECT state FROM phiproxy.data_key WHERE lpad(to_hex(id), 8, '0') = %s"
OLDER = (
    "SELECT count(*) FROM phiproxy.root_wrap w JOIN phiproxy.root_key r ON r.id = w.root_id"
    " WHERE r.state NOT IN ('retired', 'destroyed')"
    " AND w.kek_version::int < (SELECT max(kek_version::int) FROM phiproxy.root_wrap)"
)
DROPPED = (
    "SELECT s.slot FROM phiproxy.slot s JOIN phiproxy.identity i USING (number)"
    " WHERE i.identity = %s AND s.state = 'dropped' ORDER BY 1"
)
TAG = "(get_byte({column}, 11) > {slot} AND substring({column}, {first}, 16) <> decode(repeat('00', 16), 'hex'))"


def nothing_left(owner: Owner, job: str, columns: Sequence[str], key: str) -> str:
    """Say what was looked at after a job; SystemExit where something is left. ``key``: the data key that was answered for."""
    if job == "decrypt":
        (types,) = owner.execute(
            b"SELECT array_agg(DISTINCT format_type(atttypid, -1)) FROM pg_attribute"
            b" WHERE attrelid = 'people'::regclass AND attname = ANY (%s)",
            (list(columns),),
        ).fetchall()
        if types != (["text"],):
            raise SystemExit(f"after {job} columns are of {types[0]}")
        return "all columns are text again"
    conditions = {"is readable": [READABLE.format(column=column) for column in columns]}
    if job == "respond":
        if owner.execute(ENDED.encode(), (key,)).fetchall() != [("retired",)]:
            raise SystemExit(f"data key {key} is not retired")
        conditions[f"is under {key}"] = [f"{OF_KEY.format(column=column)} = '{key}'" for column in columns]
    if job == "respond-kek":
        if owner.execute(OLDER.encode()).fetchall() != [(0,)]:
            raise SystemExit("root keys are wrapped under an older version of the KEK")
        conditions["is under a key that was answered for"] = [f"{OF_KEY.format(column=c)} NOT IN ({GOOD})" for c in columns]
        tags = [
            TAG.format(column=column, slot=slot, first=13 + 16 * int(str(slot)))
            for column in columns
            for (slot,) in owner.execute(DROPPED.encode(), (f"c:public.people.{column}",)).fetchall()
        ]
        if not tags:
            raise SystemExit("no index goes by another key")
        conditions["has a tag of an old index key"] = tags
    for what, each in conditions.items():
        (count,) = owner.execute(f"SELECT count(*) FROM people WHERE {' OR '.join(each)}".encode()).fetchall()[0]
        if count:
            raise SystemExit(f"after {job} {count} rows have a value that {what}")
    return f"looked at on the server: no value {', no value '.join(conditions)}"
