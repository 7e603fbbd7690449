"""Values of PostgreSQL's types: between the wire's text and binary forms and the canonical form that is encrypted.

Which types there are, and what PostgreSQL makes of them:
    codec, codecs, declared, names, styles, value_errors, casts, common_type, comparable_operands, equality_operators
``comparable_operands``: what may stand beside a column in ``=``, and what it is converted to; ``casts``: one type to another;
``codecs``: which types can be protected.

Numbers, texts and others:
    integers, floats, numerics, text_types, scalars, networks, array_types, domain_types
``text_types``: char(n), varchar, citext and enums too; ``scalars``: bool, uuid, bytea.

Dates and times:
    dates, time_and_timetz, timestamps, intervals, times_of_day, time_input, interval_input, calendar, zones, arithmetic
``time_and_timetz`` are the two types, ``times_of_day`` what they share with timestamps; ``zones``: offsets and abbreviations.

Documents:
    json_types, json_reader
"""
