"""Values of PostgreSQL's types: between the wire's text and binary forms and the canonical form that is encrypted.

Which types there are, and what PostgreSQL makes of them:
    codec, codecs, declared, names, styles, value_errors, casts, common_type, comparable_operands, equality_operators

Numbers, texts and others:
    integers, floats, numerics, text_types, scalars, networks, array_types, domain_types

Dates and times:
    dates, time_and_timetz, timestamps, intervals, times_of_day, time_input, interval_input, calendar, zones, arithmetic

Documents:
    json_types, json_reader
"""
