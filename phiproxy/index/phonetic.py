"""soundex and metaphone, codes of how a name sounds, as PostgreSQL's fuzzystrmatch computes them (manual F.17), byte by byte.

Letters are those of ASCII, whatever the locale: in UTF-8 no byte beyond it is one. What looks odd is fuzzystrmatch's own, and kept:
its answers are what applications compare with.
"""

from phiproxy.errors import ValueRefused

_SOUNDEX_LENGTH = 4
_SOUNDEX = dict(zip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"01230120022455012623010202", strict=True))
_LETTERS = frozenset(_SOUNDEX)

LONGEST = 255
"""Bytes that metaphone takes, and phonemes that it may be asked for."""

_VOWELS = frozenset(b"AEIOU")
_SOFTENING = frozenset(b"EIY")  # C and G before them are soft
_BEFORE_H = frozenset(b"CGPST")  # the H behind them is theirs
_NOT_F = frozenset(b"BDH")  # three letters before GH they keep it from being F


class NotPhonetic(ValueRefused, sqlstate="22023"):
    """An argument that metaphone refuses (22023)."""


def soundex(value: bytes) -> bytes:
    """Return the first letter and three digits for the consonants behind it; nothing for a value without letters."""
    word = value.upper()
    start = next((i for i, c in enumerate(word) if c in _LETTERS), None)
    if start is None:
        return b""
    code = bytearray(word[start : start + 1])
    for offset in range(start + 1, len(word)):
        # what is no letter stands for itself: even a digit before a consonant of that code hides it
        before, digit = (_SOUNDEX.get(c, c) for c in word[offset - 1 : offset + 1])
        if word[offset] in _LETTERS and digit not in (before, ord("0")):
            code.append(digit)
            if len(code) == _SOUNDEX_LENGTH:
                break
    return bytes(code.ljust(_SOUNDEX_LENGTH, b"0"))


def metaphone(value: bytes, count: int) -> bytes:
    """Return up to ``count`` phonemes, 1 to 255; NotPhonetic for a value of more than 255 bytes."""
    if len(value) > LONGEST:
        raise NotPhonetic(f"argument exceeds the maximum length of {LONGEST} bytes")
    word = _Word(value.upper())
    offset = next((i for i, c in enumerate(word.letters) if c in _LETTERS), None)
    if offset is None:
        return b""
    first, skipped = _beginning(word, offset)
    phonemes = bytearray(first)
    offset += skipped
    while offset < len(word.letters) and len(phonemes) < count:
        letter = word.at(offset)
        if letter in _LETTERS and (letter != word.at(offset - 1) or letter == ord("C")):
            code, skipped = _sound(word, offset)
            phonemes += code
            offset += skipped
        offset += 1
    return bytes(phonemes[:count])


class _Word:
    """Upper-case bytes; beyond both ends there are zeroes."""

    def __init__(self, letters: bytes) -> None:
        self.letters = letters

    def at(self, offset: int) -> int:
        return self.letters[offset] if 0 <= offset < len(self.letters) else 0

    def has(self, offset: int, text: bytes) -> bool:
        return self.letters.startswith(text, offset)

    def before_vowel(self, offset: int) -> bool:
        return self.at(offset + 1) in _VOWELS


def _beginning(word: _Word, offset: int) -> tuple[bytes, int]:
    """Return the phoneme of the first letters, if they have one of their own there, and how many letters those are."""
    letter, following = chr(word.at(offset)), word.letters[offset + 1 : offset + 2]
    if letter == "A" and following == b"E":
        return b"E", 2
    if letter in "GKP" and following == b"N":
        return b"N", 2
    if letter == "W" and following in (b"H", b"R"):
        return following, 2
    if letter == "W" and word.before_vowel(offset):
        return b"W", 2
    if letter == "X":
        return b"S", 1
    return (letter.encode(), 1) if letter in "AEIOU" else (b"", 0)


_ALWAYS = {"F": b"F", "J": b"J", "L": b"L", "M": b"M", "N": b"N", "R": b"R", "Q": b"K", "V": b"F", "X": b"KS", "Z": b"S"}


def _sound(word: _Word, offset: int) -> tuple[bytes, int]:
    """Return the phonemes of a letter inside of a word, and how many letters behind it are part of them."""
    letter = chr(word.at(offset))
    before, behind = word.at(offset - 1), word.at(offset + 1)
    if letter in _ALWAYS:
        return _ALWAYS[letter], 0
    if letter in "WY":
        return (letter.encode() if behind in _VOWELS else b""), 0
    if letter == "B":
        return (b"" if before == ord("M") else b"B"), 0
    if letter == "H":
        return (b"H" if behind in _VOWELS and before not in _BEFORE_H else b""), 0
    if letter == "K":
        return (b"" if before == ord("C") else b"K"), 0
    if letter == "P":
        return (b"F" if behind == ord("H") else b"P"), 0
    if letter == "D":
        return (b"J", 1) if behind == ord("G") and word.at(offset + 2) in _SOFTENING else (b"T", 0)
    rule = _RULES.get(letter)
    return rule(word, offset) if rule is not None else (b"", 0)


def _c(word: _Word, offset: int) -> tuple[bytes, int]:
    behind_s = word.at(offset - 1) == ord("S")
    if word.has(offset, b"CIA"):
        return b"X", 0
    if word.at(offset + 1) in _SOFTENING:
        return (b"" if behind_s else b"S"), 0
    if word.at(offset + 1) == ord("H"):
        return (b"K" if behind_s or word.at(offset + 2) == ord("R") else b"X"), 1
    return b"K", 0


def _g(word: _Word, offset: int) -> tuple[bytes, int]:
    if word.at(offset + 1) == ord("H"):
        silent = word.at(offset - 3) in _NOT_F or word.at(offset - 4) == ord("H")
        return (b"", 0) if silent else (b"F", 1)
    if word.at(offset + 1) == ord("N"):
        silent = word.at(offset + 2) not in _LETTERS or word.has(offset + 2, b"ED")
        return (b"" if silent else b"K"), 0
    return (b"J" if word.at(offset + 1) in _SOFTENING and word.at(offset - 1) != ord("G") else b"K"), 0


def _s(word: _Word, offset: int) -> tuple[bytes, int]:
    if word.has(offset, b"SIO") or word.has(offset, b"SIA"):
        return b"X", 0
    if word.has(offset, b"SH"):
        return b"X", 1
    return (b"X", 2) if word.has(offset, b"SCHW") else (b"S", 0)


def _t(word: _Word, offset: int) -> tuple[bytes, int]:
    if word.has(offset, b"TIO") or word.has(offset, b"TIA"):
        return b"X", 0
    return (b"0", 1) if word.has(offset, b"TH") else (b"T", 0)


_RULES = {"C": _c, "G": _g, "S": _s, "T": _t}
