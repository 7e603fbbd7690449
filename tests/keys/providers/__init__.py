"""Real parts for the providers: a KMS, a Vault, an HSM, key files; and the contract that all of them keep."""
