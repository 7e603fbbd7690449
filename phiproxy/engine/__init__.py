"""The trusted engine: a private PostgreSQL beside the proxy that computes over opened rows what the server cannot over ciphertext.

The PostgreSQL beside the proxy:
    cluster, directory, access, locked_down, starting
``cluster`` runs it (``directory``: where), ``access`` says how it is reached, ``locked_down`` what may be done there, and
``starting`` is what a supervisor calls.

Databases and types like the server's:
    identity, definitions, databases
``identity`` compares the engine with the server, ``definitions`` tells of the types of the server's database, ``databases``
makes one like it.

One computation:
    rows_into_engine, rest, run, computation
``rows_into_engine`` and ``rest`` are the two halves of a split statement as the engine sees them, ``run`` is what is said about
them over a connection (sans-I/O), ``computation`` one run with its time.

Connections, what a worker calls, and what can go wrong:
    engine, pool, connection, failures
``engine`` is what a worker calls, ``connection`` one socket to the engine, and ``pool`` all of them.
"""
