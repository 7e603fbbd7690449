"""Floor 6: sockets; may await, never meets keys.

Clients:
    listener, first_packet, client_slots, tls, tls_files, channel_binding, scram_login, scram_verifiers, login_messages, tokens,
    pooling_check

Servers:
    upstream, failover, cancel_requests, service_login, standing_connection, standby_replay

One session:
    relay, leg, sockets, session_needs, session_computations, offload, held_until_recorded
``held_until_recorded``: rows wait until their audit record is on disk; ``offload``: long work beside the event loop.

The catalogue:
    catalog_reader, catalog_watch, database_objects, dependency_reader, role_members, held_tables

Processes, log and times:
    workers, tasks, clock, session_log, statement_times
"""
