#!/bin/sh
# Run once by the image postgres, in the empty database: the proxy's role, the application's, and its table.
set -eu
psql -qv ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname "${POSTGRES_DB:-clinic}" \
  -v service="$(cat "${SECRETS:-/secrets}/service.password")" -v app="$(cat "${SECRETS:-/secrets}/app.password")" <<'SQL'
CREATE ROLE phiproxy LOGIN PASSWORD :'service';
CREATE ROLE clinic_app LOGIN PASSWORD :'app';
GRANT CONNECT, CREATE ON DATABASE clinic TO phiproxy;
-- auth.mode scram: the verifiers of the roles that log in
GRANT SELECT (rolname, rolpassword, rolvaliduntil) ON pg_catalog.pg_authid TO phiproxy;
CREATE TABLE public.patients (id serial PRIMARY KEY, ssn text UNIQUE, full_name text, notes text, city text);
ALTER TABLE public.patients OWNER TO clinic_app;
GRANT SELECT, UPDATE ON public.patients TO phiproxy;
SQL
