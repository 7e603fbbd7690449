# For trying it on one machine: no TLS within the compose network, and the unseal key lies in a volume.
storage "file" { path = "/openbao/file" }
listener "tcp" {
  address     = "0.0.0.0:8200"
  tls_disable = true
}
disable_mlock = true
