"""Why a statement cannot be split: not told, since the refusal of its analysis stands then, but for a hint."""


class Impossible(Exception):
    """A statement holds what neither the server nor the engine can answer."""


class RefusedWithHint(Impossible):
    """The same, with what would help whoever is told that the statement is refused."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint
