"""Policy files with their index expressions, which are read by the same parser as statements."""

import os

from phiproxy.policy import load
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings
from phiproxy.sql.values.index_spelling import spell


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Read one policy file; ConfigError with every complaint, one per line."""
    return load.load_policy(path, spell)


def load_policies(settings: Settings) -> list[Policy]:
    """Read every policy file of a configuration; ConfigError with the complaints of all of them."""
    return load.load_policies(settings, spell)
