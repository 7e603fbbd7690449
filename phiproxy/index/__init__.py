"""Index expressions: phiproxy's own spelling, and the closed table of what it evaluates as PostgreSQL (spec/stored-format 6.2).

Expressions:
    function_table, transform, spelling, registered_form

Texts:
    text_functions, characters, collations, phonetic, double_metaphone

Dates, ranges and documents:
    date_functions, moments, cover_range, document_paths
``cover_range``: which years, months, days or single values a range is made of; ``date_functions``: extract, date_trunc.
"""
