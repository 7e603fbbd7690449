"""dmetaphone and dmetaphone_alt, two codes of how a name may sound, as PostgreSQL's fuzzystrmatch computes them (manual F.17).

Byte by byte, as it does: of UTF-8 it takes single bytes for the Latin-1 letters C with cedilla and N with tilde. Each letter has a
rule that says what it adds to either code and how far it goes; Lawrence Philips's comments name the words that the rules are for.
"""

from collections.abc import Callable

_LENGTH = 4
_VOWELS = b"AEIOUY"

Sound = tuple[bytes, bytes, int]
"""What is added to the first code and to the second, and the number of bytes that this speaks for."""


def dmetaphone(value: bytes) -> bytes:
    """Return how most would say it: up to four letters."""
    return _codes(value)[0]


def dmetaphone_alt(value: bytes) -> bytes:
    """Return how others would say it."""
    return _codes(value)[1]


def _codes(value: bytes) -> tuple[bytes, bytes]:
    word = _Word(value.upper())
    first, second, at = b"", b"", 0
    if word.has(0, b"GN", b"KN", b"PN", b"WR", b"PS"):
        at = 1
    if word[0] == b"X":
        first, second, at = b"S", b"S", 1
    while at < word.length and (len(first) < _LENGTH or len(second) < _LENGTH):
        one, other, step = _sound(word, at)
        first, second, at = first + one, second + other, at + step
    return first[:_LENGTH], second[:_LENGTH]


class _Word:
    """Upper-case bytes with blanks behind them; before and after all that there is nothing."""

    def __init__(self, letters: bytes) -> None:
        self.length = len(letters)
        self.last = self.length - 1
        self._bytes = letters + b" " * 5
        self.slavo_germanic = any(part in letters for part in (b"W", b"K", b"CZ"))
        self.germanic = self.has(0, b"VAN ", b"VON ", b"SCH")

    def __getitem__(self, offset: int) -> bytes:
        return self._bytes[offset : offset + 1] if offset >= 0 else b""

    def has(self, offset: int, *texts: bytes) -> bool:
        return offset >= 0 and self._bytes.startswith(texts, offset)

    def vowel(self, offset: int) -> bool:
        return self[offset] != b"" and self[offset] in _VOWELS


def _both(code: bytes, step: int) -> Sound:
    return code, code, step


def _sound(word: _Word, at: int) -> Sound:
    letter = word[at]
    if letter in _DOUBLED:
        return _both(_DOUBLED[letter], 2 if word[at + 1] == letter else 1)
    rule = _RULES.get(letter)
    return rule(word, at) if rule is not None else _both(b"", 1)


# Where two of them stand for one.
_DOUBLED = {b"B": b"P", b"F": b"F", b"K": b"K", b"N": b"N", b"Q": b"K", b"V": b"F"}


def _c(word: _Word, at: int) -> Sound:
    if _germanic_ach(word, at):
        return _both(b"K", 2)
    if at == 0 and word.has(at, b"CAESAR"):
        return _both(b"S", 2)
    if word.has(at, b"CH"):
        return _ch(word, at)
    if word.has(at, b"CZ") and not word.has(at - 2, b"WICZ"):  # czerny
        return b"S", b"X", 2
    if word.has(at + 1, b"CIA"):  # focaccia
        return _both(b"X", 3)
    if word.has(at, b"CC") and not (at == 1 and word[0] == b"M"):  # but McClellan
        return _cc(word, at)
    if word.has(at, b"CK", b"CG", b"CQ"):
        return _both(b"K", 2)
    if word.has(at, b"CI", b"CE", b"CY"):
        return b"S", b"X" if word.has(at, b"CIO", b"CIE", b"CIA") else b"S", 2
    if word.has(at + 1, b" C", b" Q", b" G"):  # mac caffrey, mac gregor
        return _both(b"K", 3)
    return _both(b"K", 2 if word.has(at + 1, b"C", b"K", b"Q") and not word.has(at + 1, b"CE", b"CI") else 1)


def _germanic_ach(word: _Word, at: int) -> bool:
    if not (at > 1 and not word.vowel(at - 2) and word.has(at - 1, b"ACH")) or word[at + 2] == b"I":
        return False
    return word[at + 2] != b"E" or word.has(at - 2, b"BACHER", b"MACHER")


def _ch(word: _Word, at: int) -> Sound:
    if word.has(at, b"CHIA"):  # chianti
        return _both(b"K", 2)
    if at > 0 and word.has(at, b"CHAE"):  # michael
        return b"K", b"X", 2
    greek = word.has(at + 1, b"HARAC", b"HARIS", b"HOR", b"HYM", b"HIA", b"HEM")
    if at == 0 and greek and not word.has(0, b"CHORE"):  # chemistry, chorus
        return _both(b"K", 2)
    if word.germanic or word.has(at - 2, b"ORCHES", b"ARCHIT", b"ORCHID") or word.has(at + 2, b"T", b"S"):
        return _both(b"K", 2)
    if (at == 0 or word.has(at - 1, b"A", b"O", b"U", b"E")) and word.has(at + 2, *_BEHIND_KH):  # wechsler, but tichner
        return _both(b"K", 2)
    if at == 0:
        return _both(b"X", 2)
    return (b"K" if word.has(0, b"MC") else b"X"), b"K", 2  # McHugh


_BEHIND_KH = (b"L", b"R", b"N", b"M", b"B", b"H", b"F", b"V", b"W", b" ")


def _cc(word: _Word, at: int) -> Sound:
    if not word.has(at + 2, b"I", b"E", b"H") or word.has(at + 2, b"HU"):  # bacchus
        return _both(b"K", 2)
    hard = (at == 1 and word[0] == b"A") or word.has(at - 1, b"UCCEE", b"UCCES")  # accident, succeed; but bertucci
    return _both(b"KS" if hard else b"X", 3)


def _d(word: _Word, at: int) -> Sound:
    if word.has(at, b"DG"):
        return _both(b"J", 3) if word.has(at + 2, b"I", b"E", b"Y") else _both(b"TK", 2)  # edge, edgar
    return _both(b"T", 2 if word.has(at, b"DT", b"DD") else 1)


def _g(word: _Word, at: int) -> Sound:
    if word[at + 1] == b"H":
        return _gh(word, at)
    if word[at + 1] == b"N":
        return _gn(word, at)
    if word.has(at + 1, b"LI") and not word.slavo_germanic:  # tagliaro
        return b"KL", b"L", 2
    if at == 0 and word.has(1, b"Y", b"ES", b"EP", b"EB", b"EL", b"EY", b"IB", b"IL", b"IN", b"IE", b"EI", b"ER"):
        return b"K", b"J", 2
    if _ger(word, at):
        return b"K", b"J", 2
    if word.has(at + 1, b"E", b"I", b"Y") or word.has(at - 1, b"AGGI", b"OGGI"):  # biaggi
        if word.germanic or word.has(at + 1, b"ET"):
            return _both(b"K", 2)
        return b"J", b"J" if word.has(at + 1, b"IER ") else b"K", 2
    return _both(b"K", 2 if word[at + 1] == b"G" else 1)


def _ger(word: _Word, at: int) -> bool:
    return (
        word.has(at + 1, b"ER", b"Y")
        and not word.has(0, b"DANGER", b"RANGER", b"MANGER")
        and not word.has(at - 1, b"E", b"I", b"RGY", b"OGY")
    )


def _gh(word: _Word, at: int) -> Sound:
    if at > 0 and not word.vowel(at - 1):
        return _both(b"K", 2)
    if at == 0:  # ghislane, ghiradelli
        return _both(b"J" if word[2] == b"I" else b"K", 2)
    if (  # hugh, bough, broughton
        (at > 1 and word.has(at - 2, b"B", b"H", b"D"))
        or (at > 2 and word.has(at - 3, b"B", b"H", b"D"))
        or (at > 3 and word.has(at - 4, b"B", b"H"))
    ):
        return _both(b"", 2)
    if at > 2 and word[at - 1] == b"U" and word.has(at - 3, b"C", b"G", b"L", b"R", b"T"):  # laugh, tough
        return _both(b"F", 2)
    return _both(b"K" if word[at - 1] != b"I" else b"", 2)


def _gn(word: _Word, at: int) -> Sound:
    if at == 1 and word.vowel(0) and not word.slavo_germanic:
        return b"KN", b"N", 2
    if not word.has(at + 2, b"EY") and not word.slavo_germanic:  # but cagney
        return b"N", b"KN", 2
    return _both(b"KN", 2)


def _h(word: _Word, at: int) -> Sound:
    return _both(b"H", 2) if (at == 0 or word.vowel(at - 1)) and word.vowel(at + 1) else _both(b"", 1)


def _j(word: _Word, at: int) -> Sound:
    spanish = word.has(0, b"SAN ")
    if word.has(at, b"JOSE") or spanish:
        return b"H" if spanish or (at == 0 and word[4] == b" ") else b"J", b"H", 1
    step = 2 if word[at + 1] == b"J" else 1
    if at == 0:  # Yankelovich, Jankelowicz
        return b"J", b"A", step
    if word.vowel(at - 1) and not word.slavo_germanic and word.has(at + 1, b"A", b"O"):  # bajador
        return b"J", b"H", step
    if at == word.last:
        return b"J", b"", step
    silent = word.has(at + 1, b"L", b"T", b"K", b"S", b"N", b"M", b"B", b"Z") or word.has(at - 1, b"S", b"K", b"L")
    return _both(b"" if silent else b"J", step)


def _l(word: _Word, at: int) -> Sound:
    if word[at + 1] != b"L":
        return _both(b"L", 1)
    ending = word.has(word.last - 1, b"AS", b"OS") or word.has(word.last, b"A", b"O")
    spanish = (at == word.length - 3 and word.has(at - 1, b"ILLO", b"ILLA", b"ALLE")) or (ending and word.has(at - 1, b"ALLE"))
    return b"L", b"" if spanish else b"L", 2  # cabrillo, gallegos


def _m(word: _Word, at: int) -> Sound:
    dumb = word.has(at - 1, b"UMB") and (at + 1 == word.last or word.has(at + 2, b"ER"))
    return _both(b"M", 2 if dumb or word[at + 1] == b"M" else 1)


def _p(word: _Word, at: int) -> Sound:
    if word[at + 1] == b"H":
        return _both(b"F", 2)
    return _both(b"P", 2 if word.has(at + 1, b"P", b"B") else 1)  # campbell, raspberry


def _r(word: _Word, at: int) -> Sound:
    french = at == word.last and not word.slavo_germanic and word.has(at - 2, b"IE") and not word.has(at - 4, b"ME", b"MA")
    return b"" if french else b"R", b"R", 2 if word[at + 1] == b"R" else 1  # rogier, but hochmeier


def _s(word: _Word, at: int) -> Sound:
    if word.has(at - 1, b"ISL", b"YSL"):  # island, carlisle
        return _both(b"", 1)
    if at == 0 and word.has(at, b"SUGAR"):
        return b"X", b"S", 1
    if word.has(at, b"SH"):
        return _both(b"S" if word.has(at + 1, b"HEIM", b"HOEK", b"HOLM", b"HOLZ") else b"X", 2)
    if word.has(at, b"SIO", b"SIA"):
        return b"S", b"S" if word.slavo_germanic else b"X", 3
    if (at == 0 and word.has(1, b"M", b"N", b"L", b"W")) or word[at + 1] == b"Z":  # smith as schmidt, snider as schneider
        return b"S", b"X", 2 if word[at + 1] == b"Z" else 1
    if word.has(at, b"SC"):
        return _sc(word, at)
    french = at == word.last and word.has(at - 2, b"AI", b"OI")  # resnais, artois
    return b"" if french else b"S", b"S", 2 if word.has(at + 1, b"S", b"Z") else 1


def _sc(word: _Word, at: int) -> Sound:
    if word[at + 2] == b"H":
        if word.has(at + 3, b"ER", b"EN"):  # schermerhorn, schenker
            return b"X", b"SK", 3
        if word.has(at + 3, b"OO", b"UY", b"ED", b"EM"):  # school
            return _both(b"SK", 3)
        return b"X", b"S" if at == 0 and not word.vowel(3) and word[3] != b"W" else b"X", 3
    return _both(b"S" if word.has(at + 2, b"I", b"E", b"Y") else b"SK", 3)


def _t(word: _Word, at: int) -> Sound:
    if word.has(at, b"TION", b"TIA", b"TCH"):
        return _both(b"X", 3)
    if word.has(at, b"TH", b"TTH"):
        return (b"T" if word.has(at + 2, b"OM", b"AM") or word.germanic else b"0"), b"T", 2  # thomas, thames
    return _both(b"T", 2 if word.has(at + 1, b"T", b"D") else 1)


def _w(word: _Word, at: int) -> Sound:
    if word.has(at, b"WR"):
        return _both(b"R", 2)
    first, second = b"", b""
    if at == 0 and (word.vowel(1) or word[1] == b"H"):  # Wasserman as Vasserman, Womo as Uomo
        first, second = b"A", b"F" if word.vowel(1) else b"A"
    if (
        (at == word.last and word.vowel(at - 1))  # Arnow as Arnoff
        or word.has(at - 1, b"EWSKI", b"EWSKY", b"OWSKI", b"OWSKY")
        or word.has(0, b"SCH")
    ):
        return first, second + b"F", 1
    if word.has(at, b"WICZ", b"WITZ"):  # filipowicz
        return first + b"TS", second + b"FX", 4
    return first, second, 1


def _x(word: _Word, at: int) -> Sound:
    french = at == word.last and (word.has(at - 3, b"IAU", b"EAU") or word.has(at - 2, b"AU", b"OU"))  # breaux
    return _both(b"" if french else b"KS", 2 if word.has(at + 1, b"C", b"X") else 1)


def _z(word: _Word, at: int) -> Sound:
    if word[at + 1] == b"H":  # zhao
        return _both(b"J", 2)
    slavic = word.slavo_germanic and at > 0 and word[at - 1] != b"T"
    second = b"TS" if word.has(at + 1, b"ZO", b"ZI", b"ZA") or slavic else b"S"
    return b"S", second, 2 if word[at + 1] == b"Z" else 1


_RULES: dict[bytes, Callable[[_Word, int], Sound]] = {
    **dict.fromkeys((bytes([vowel]) for vowel in _VOWELS), lambda _, at: _both(b"A" if at == 0 else b"", 1)),
    b"\xc7": lambda _word, _at: _both(b"S", 1),
    b"\xd1": lambda _word, _at: _both(b"N", 1),
    b"C": _c,
    b"D": _d,
    b"G": _g,
    b"H": _h,
    b"J": _j,
    b"L": _l,
    b"M": _m,
    b"P": _p,
    b"R": _r,
    b"S": _s,
    b"T": _t,
    b"W": _w,
    b"X": _x,
    b"Z": _z,
}
