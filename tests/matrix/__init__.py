"""The matrix of types: operator, context, left type, right type, and how the value is given, directly and through the proxy.

``axes`` are the types, ``given`` how a value is given, ``contexts`` where; ``cases`` draws one statement of them for each number,
the same in every run. ``runner`` runs them both ways on the twins of ``schema``, ``verdicts`` says what became of each.
``python -m tests.matrix --seed S --count N`` runs as many as one likes and tells what failed, by kind.
"""
