#!/bin/sh
# /etc/letsencrypt/renewal-hooks/deploy/phiproxy: run by certbot after each renewal, with RENEWED_LINEAGE set.
# Copies the certificate to where phiproxy may read it, and has it read again; existing sessions go on.
set -eu
target=${PHIPROXY_TLS_DIRECTORY:-/etc/phiproxy/tls}
owner=${PHIPROXY_OWNER:-phiproxy:phiproxy}
umask 077
mkdir -p "$target"
for pair in fullchain.pem:server.pem privkey.pem:server.key; do
  # each is whole before it has its name; where a reload comes between the two, it is refused and changes nothing
  cp "$RENEWED_LINEAGE/${pair%%:*}" "$target/.${pair##*:}.new"
  chown "$owner" "$target/.${pair##*:}.new"
done
mv "$target/.server.pem.new" "$target/server.pem"
mv "$target/.server.key.new" "$target/server.key"
if [ -n "${PHIPROXY_PID:-}" ]; then
  kill -HUP "$PHIPROXY_PID"
else
  systemctl reload phiproxy.service
fi
