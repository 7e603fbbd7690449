"""Regular expressions that Python's ``re`` answers exactly as PostgreSQL's ``~`` does (manual 9.7.3), and LIKE patterns.

A subset: what the two engines read in different ways, or what would make ``re`` search for an unbounded time, is refused. Character
classes are those of ASCII: what a server's locale adds to them is not known here, so that a value beyond ASCII is not judged.
"""

import re
from dataclasses import dataclass

_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": r"\t-\r\ "}
_NAMED = {
    "alpha": "A-Za-z", "digit": "0-9", "alnum": "A-Za-z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\t-\r\ ",
    "xdigit": "0-9A-Fa-f", "blank": r"\t\ ", "punct": "!-/:-@\\[-`{-~", "cntrl": "\x00-\x1f\x7f", "print": r"\ -~", "graph": "!-~",
}  # fmt: skip
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
# DUPMAX of PostgreSQL's engine.
_MOST = 255
# What several unbounded quantifiers take grows with powers of the length.
MAX_UNBOUNDED = 4
MAX_LENGTH = 4096


class PatternRefused(ValueError):
    """A pattern is not of the subset; the text says what in it is not."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern at work. ``ascii``: it judges values of ASCII only; ``limit``: and of so many characters at most."""

    compiled: re.Pattern[str]
    ascii: bool
    limit: int | None = None

    def judges(self, value: str) -> bool:
        """Tell whether what ``matches`` says of a value is what PostgreSQL would say."""
        return (value.isascii() or not self.ascii) and (self.limit is None or len(value) <= self.limit)

    def matches(self, value: str) -> bool:
        """Tell whether the pattern is found in a value."""
        return self.compiled.search(value) is not None


def regular_expression(text: str, *, ignore_case: bool = False) -> Pattern:
    """Return the pattern that ``~`` (``~*``) compares with; PatternRefused."""
    if ignore_case and not text.isascii():
        raise PatternRefused("letters beyond ASCII where case is ignored")
    reader = _Reader(text, ignore_case=ignore_case)
    translated = reader.read()
    if reader.unbounded > MAX_UNBOUNDED:
        raise PatternRefused(f"more than {MAX_UNBOUNDED} quantifiers without an upper bound")
    flags = re.DOTALL | (re.IGNORECASE | re.ASCII if ignore_case else 0)
    limit = MAX_LENGTH if reader.unbounded > 1 else None
    return Pattern(re.compile(translated, flags), ascii=reader.classes or ignore_case, limit=limit)


def like(text: str, escape: str = "\\") -> Pattern:
    r"""Return the pattern of LIKE, whose escape character is ``escape`` (none where it is empty); PatternRefused."""
    translated, i = [r"\A"], 0
    while i < len(text):
        character = text[i]
        i += 1
        if escape and character == escape:
            if i == len(text):
                raise PatternRefused("an escape character at the end of a LIKE pattern")
            translated.append(re.escape(text[i]))
            i += 1
        else:
            translated.append({"%": ".*", "_": "."}.get(character, re.escape(character)))
    many = translated.count(".*")
    if many > MAX_UNBOUNDED:
        raise PatternRefused(f"more than {MAX_UNBOUNDED} % in a LIKE pattern")
    return Pattern(re.compile("".join(translated) + r"\Z", re.DOTALL), ascii=False, limit=MAX_LENGTH if many > 1 else None)


class _Reader:
    """One pattern, read from the left; what is read is returned as ``re`` spells it."""

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        self._text = text
        self._at = 0
        self._ignore_case = ignore_case
        self.classes = False
        self.unbounded = 0

    def read(self) -> str:
        if self._text.startswith(("***", "(?")) and not self._text.startswith("(?:"):
            raise PatternRefused("options at its beginning")
        translated, _ = self._branches()
        if self._at < len(self._text):
            raise PatternRefused("a bracket that nothing opened")
        return translated

    def _peek(self, size: int = 1) -> str:
        return self._text[self._at : self._at + size]

    def _take(self, size: int = 1) -> str:
        taken = self._peek(size)
        self._at += size
        return taken

    def _branches(self) -> tuple[str, bool]:
        """Return alternatives, and whether they match texts of more than one length or in more than one way."""
        branches, varies = [], False
        while True:
            branch, own = self._branch()
            branches.append(branch)
            varies = varies or own
            if self._peek() != "|":
                return "|".join(branches), varies or len(branches) > 1
            self._take()

    def _branch(self) -> tuple[str, bool]:
        pieces, varies = [], False
        while self._peek() not in ("", "|", ")"):
            atom, own, quantifiable = self._atom()
            quantifier = self._quantifier()
            if quantifier:
                if not quantifiable:
                    raise PatternRefused("a quantifier behind a constraint")
                if own and quantifier != "?":
                    raise PatternRefused("a quantifier of a part that itself varies in length or has alternatives")
                own = not re.fullmatch(r"\{\d+\}", quantifier)
            varies = varies or own
            pieces.append(atom + quantifier)
        if not pieces:
            raise PatternRefused("an empty alternative")
        return "".join(pieces), varies

    def _quantifier(self) -> str:
        match = re.compile(r"[*+?]|\{(\d{1,3})(,?)(\d{0,3})\}").match(self._text, self._at)
        if match is None:
            if self._peek() == "{":
                raise PatternRefused("a brace that is no quantifier")
            return ""
        self._at = match.end()
        if match[1] is not None:
            least, most = int(match[1]), int(match[3] or match[1])
            if max(least, most) > _MOST or least > most or (match[3] and not match[2]):
                raise PatternRefused("a quantifier out of bounds")
        unbounded = match[0] in "*+" or match[0].endswith(",}")
        self.unbounded += unbounded
        if self._peek() == "?":
            self._take()  # which way it prefers does not matter for whether it matches
        if self._peek() in tuple("*+?{"):
            raise PatternRefused("a quantifier behind a quantifier")
        return match[0]

    def _atom(self) -> tuple[str, bool, bool]:
        """Return an atom, whether it varies, and whether it may have a quantifier."""
        character = self._take()
        if character == "(":
            if self._peek(2) == "?:":
                self._take(2)
            elif self._peek() == "?":
                raise PatternRefused("a lookaround")
            inside, varies = self._branches()
            if self._take() != ")":
                raise PatternRefused("a bracket that is not closed")
            return f"(?:{inside})", varies, True
        if character == "[":
            return self._bracket(), False, True
        if character in "^$":
            return r"\A" if character == "^" else r"\Z", False, False
        if character == "\\":
            return self._escape(), False, True
        if character in "*+?{":
            raise PatternRefused("a quantifier of nothing")
        return "." if character == "." else re.escape(character), False, True

    def _escape(self) -> str:
        character = self._take()
        if character.lower() in _CLASSES and character:
            self.classes = True
            return f"[{'^' if character.isupper() else ''}{_CLASSES[character.lower()]}]"
        return re.escape(self._escaped(character))

    def _escaped(self, character: str) -> str:
        """Return the character that an escape means, which is no class."""
        if character in _CONTROL and character:
            return _CONTROL[character]
        if not character or character.isalnum() or character == "_":
            raise PatternRefused("an escape that is not known")
        return character

    def _bracket(self) -> str:
        items = []
        negated = self._peek() == "^"
        if negated:
            self._take()
        first = True
        while first or self._peek() != "]":
            item, single = self._member(first=first)
            first = False
            if self._peek() == "-" and self._peek(2) != "-]":
                self._take()
                last, also_single = self._member(first=False)
                if not (single and also_single) or item > last:
                    raise PatternRefused("a range that is none")
                items.append(f"{re.escape(item)}-{re.escape(last)}")
            else:
                items.append(re.escape(item) if single else item)
        self._take()
        return f"[{'^' if negated else ''}{''.join(items)}]"

    def _member(self, *, first: bool) -> tuple[str, bool]:
        """Return a character, or the inside of a class, and whether it is the former."""
        character = self._take()
        if not character or (character == "-" and not first and self._peek() != "]"):
            raise PatternRefused("a bracket expression that is not closed, or a - in the middle of one")
        if character == "[" and self._peek() in (":", ".", "="):
            return self._named_class(), False
        if character != "\\":
            return character, True
        escaped = self._take()
        if escaped in _CLASSES and escaped:
            self.classes = True
            return _CLASSES[escaped], False
        return self._escaped(escaped), True

    def _named_class(self) -> str:
        match = re.compile(r":([a-z]+):\]").match(self._text, self._at)
        inside = None if match is None else _NAMED.get(match[1])
        if match is None or inside is None or (self._ignore_case and match[1] in ("upper", "lower")):
            raise PatternRefused("a character class that is not known")
        self._at = match.end()
        self.classes = True
        return inside
