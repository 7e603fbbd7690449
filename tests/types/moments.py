"""Generated dates, times and zones, in every spelling."""

from __future__ import annotations

from hypothesis import strategies as st

from phiproxy.types.calendar import FIRST_DAY, LAST_DAY, date_of
from phiproxy.types.styles import Styles

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe", "Europe/Dublin", "<-08>+08",
    "America/Sao_Paulo", "GMT", "Asia/Kathmandu", "<+0530>-05:30",
]  # fmt: skip

days = st.one_of(
    st.integers(FIRST_DAY - 3, FIRST_DAY + 400),
    st.integers(LAST_DAY - 400, LAST_DAY + 3),
    st.integers(-800_000, 800_000),
    st.integers(-40_000, 20_000),
    st.integers(-40_000, 20_000),
)
stamp_days = st.one_of(days, st.integers(106_751_985, 106_751_995), st.integers(2_900_000, 3_000_000))
fractions = st.one_of(
    st.just(""), st.integers(0, 999_999).map(".{:06}".format), st.sampled_from([".5", ".9999995", ".0000005", ".123456789"])
)
times = st.one_of(
    st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), fractions).map(
        lambda t: f"{t[0]:02}:{t[1]:02}:{t[2]:02}{t[3]}"
    ),
    st.sampled_from(
        [
            "24:00:00",
            "24:00:01",
            "00:00:60",
            "23:59:60",
            "23:59:59.9999999",
            "4:5",
            "04:05",
            "12:60",
            "25:00",
            "1:2:3",
            "12:30:61",
            "00:00:00",
        ]
    ),
    st.tuples(st.integers(0, 14), st.integers(0, 59), st.sampled_from([" am", "PM", " pm", "am"])).map(
        lambda t: f"{t[0]}:{t[1]:02}{t[2]}"
    ),
)
offsets = st.one_of(
    st.tuples(st.sampled_from("+-"), st.integers(0, 16), st.sampled_from(["", "", ":30", "30", ":45:17", ":60"])).map(
        lambda t: f"{t[0]}{t[1]:02}{t[2]}"
    ),
    st.sampled_from(["Z", " UTC", "z", " GMT", "-8", " +05", "+530", " zulu"]),
    st.sampled_from([" Europe/Paris", " america/new_york", " CET", " CEST", " EST", " EDT", " PST", " IST", " Mars/Base", " LMT"]),
)


def iso(day: int) -> str:
    year, month, dom = date_of(day)
    return f"{year:04d}-{month:02d}-{dom:02d}" if year > 0 else f"{1 - year:04d}-{month:02d}-{dom:02d} BC"


MONTHS = ["Jan", "feb", "MARCH", "Apr", "May", "june", "Jul", "August", "Sept", "Oct", "Nov", "Dec"]
years = st.one_of(st.integers(0, 120).map(str), st.integers(1, 99).map("{:02}".format), st.integers(1000, 12000).map(str))
numbers = st.one_of(st.integers(0, 32).map(str), st.integers(1, 12).map("{:02}".format))
parts = st.permutations([0, 1, 2]).flatmap(lambda order: st.tuples(years, numbers, numbers).map(lambda t: [t[i] for i in order]))
named = st.permutations([0, 1, 2]).flatmap(
    lambda order: st.tuples(years, st.sampled_from(MONTHS), numbers).map(lambda t: [t[i] for i in order])
)
dates = st.one_of(
    st.tuples(parts, st.sampled_from("-/.")).map(lambda t: t[1].join(t[0])),
    st.tuples(named, st.sampled_from(["-", " ", "/", ", ", " "])).map(lambda t: t[1].join(t[0])),
    st.integers(-40_000, 20_000).map(lambda d: iso(d).replace("-", "")),
    st.integers(-40_000, 20_000).map(lambda d: iso(d).replace("-", "")[2:]),
)
eras = st.sampled_from(["", "", "", " BC", " AD", " bc"])
words = st.sampled_from(
    [
        "infinity",
        "-infinity",
        "epoch",
        "+infinity",
        "now",
        "today",
        "yesterday",
        "allballs",
        "",
        "abc",
        "2001",
        "jan",
        "12:00",
        "2001-02",
        "J2451187",
        "1999.008",
        "2001-02-03T",
        "T04:05",
        "2001-02-03T04:05:06Z",
        "20010203T040506.7-02",
        "20010203T0405",
        "2001-02-03 04:05:06 07:08",
        "2001-02-03-04",
        "Mon",
        "2001-02-03 x",
        "é",
        "12-13",
        "Sat Feb 03 04:05:06.7 2001 CET",
        "Sat 03 Feb 04:05:06 2001 GMT BC",
        "Sat, 03 Feb 2001 04:05:06 +0200",
        "2001-02-29",
        "2000-02-29",
        "0000-01-01",
    ]
)
SOUP = (
    "2001-02-03|02/03/2001|3.2.2001|20010203|Feb|March|3|31|1999|99|04:05|04:05:06.7|12:00|am|PM|+02|-0330|Z|UTC|CET|EST|Europe/Berlin|BC|AD|"
    "T|t04:05|Sat|mon|,|at|on|epoch|infinity|040506|3-Feb-2001|Feb-3-99|2001-Feb-3|J|d|y|m|h|dst|24:00|0|00|/|-|.|:"
)
soup = st.lists(st.tuples(st.sampled_from(SOUP.split("|")), st.sampled_from(["", " ", " ", " "])).map("".join), max_size=5).map(
    "".join
)
styles = st.builds(
    Styles, st.sampled_from(["ISO", "SQL", "Postgres", "German"]), st.sampled_from(["MDY", "DMY", "YMD"]), st.sampled_from(ZONES)
)
