"""The trusted engine: a private PostgreSQL beside the proxy that computes over opened rows what the server cannot over ciphertext.

``cluster`` runs it (``directory``: where), ``access`` says how it is reached, ``locked_down`` what may be done there. ``identity``
compares it with the server, ``definitions`` tells of the types of the server's database and ``databases`` makes one like it.
``source`` and ``rest`` are the two halves of a split statement as the engine sees them, ``run`` is what is said about them over a
connection (sans-I/O), ``connection`` is its socket and ``pool`` all of them, ``computation`` one run with its time. ``starting`` is
what a supervisor calls, and ``engine`` what a worker calls.
"""
