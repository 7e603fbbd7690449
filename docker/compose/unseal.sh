#!/bin/sh
# Initialise OpenBao the first time, unseal it every time; then a derived transit key, and an AppRole that may use it and no more.
set -eu
until bao status >/dev/null 2>&1 || [ $? -eq 2 ]; do sleep 1; done
umask 077
if [ ! -s /secrets/unseal_key ]; then
  bao operator init -key-shares=1 -key-threshold=1 > /secrets/.init
  sed -n 's/^Unseal Key 1: //p' /secrets/.init > /secrets/unseal_key
  sed -n 's/^Initial Root Token: //p' /secrets/.init > /secrets/root_token
  rm /secrets/.init
fi
bao operator unseal "$(cat /secrets/unseal_key)" >/dev/null
BAO_TOKEN=$(cat /secrets/root_token)
export BAO_TOKEN
if [ ! -s /secrets/secret_id ]; then
  bao secrets enable transit
  bao write transit/keys/phiproxy type=aes256-gcm96 derived=true
  bao auth enable approle
  bao policy write phiproxy - <<'HCL'
path "transit/keys/phiproxy"              { capabilities = ["read"] }
path "transit/decrypt/phiproxy"           { capabilities = ["update"] }
path "transit/datakey/plaintext/phiproxy" { capabilities = ["update"] }
path "transit/encrypt/phiproxy"           { capabilities = ["update"] }
HCL
  bao write auth/approle/role/phiproxy token_policies=phiproxy token_period=1h
  bao read -field=role_id auth/approle/role/phiproxy/role-id > /secrets/role_id
  bao write -f -field=secret_id auth/approle/role/phiproxy/secret-id > /secrets/secret_id
  chown 65532:65532 /secrets/role_id /secrets/secret_id
fi
