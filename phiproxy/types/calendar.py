"""Days and years of PostgreSQL's calendar: proleptic Gregorian, from 4713 BC on.

Python's ``datetime`` knows the years 1 to 9999 only, which is why this is arithmetic of our own. Years are astronomical: year 0
is 1 BC. Day 0 is 2000-01-01, as in the binary form.
"""

from calendar import isleap

_ERA_DAYS = 146_097  # of 400 years
_EPOCH = 730_425  # days from 0000-03-01 to 2000-01-01
FIRST_DAY = -2_451_545
"""4713-11-24 BC, Julian day 0: the first that every date type holds."""
LAST_DAY = 2_145_031_948
"""5874897-12-31."""
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_of(year: int, month: int, day: int) -> int:
    """Return the number of a day of the calendar."""
    march_year = year - (month <= 2)
    era, year_of_era = divmod(march_year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * _ERA_DAYS + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - _EPOCH


def date_of(day: int) -> tuple[int, int, int]:
    """Return year, month and day of a day number."""
    era, day_of_era = divmod(day + _EPOCH, _ERA_DAYS)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = (shifted + 2) % 12 + 1
    return era * 400 + year_of_era + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


def days_in(year: int, month: int) -> int:
    """Return how many days the month has."""
    return 28 if month == 2 and not isleap(year) else _MONTH_DAYS[month - 1]


def weekday(day: int) -> str:
    """Return the abbreviated name of the day of the week."""
    return WEEKDAYS[(day + 6) % 7]
