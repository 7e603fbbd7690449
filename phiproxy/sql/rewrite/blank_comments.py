"""Comments of a text as the server may see them (``text.comments``): which are blanked, in one statement and around others."""

from collections.abc import Collection, Sequence

from phiproxy.sql.result import Answered, Edit
from phiproxy.sql.rewrite.order_of_rewrites import outside
from phiproxy.sql.text.parse import Scan, between
from phiproxy.sql.text.visible_comments import blank, shown_comment


def blanked_comments(
    scan: Scan,
    span: tuple[int, int],
    values: Collection[bytes],
    names: Collection[str],
    *,
    bound: bool,
) -> list[Edit]:
    """Return the edits that leave of the comments of a statement, with those around it in ``span``, what the server may see.

    Of a string of several statements that is nothing: what one seals may stand in the comment of another. Each blanks those around
    itself, and whoever analyses the whole string those around the others. For the rest see ``shown_comment``.
    """
    text = scan.text
    single = span == (0, len(text))
    edits = []
    for comment in between(scan.comments, *span):
        said = text[comment.start : comment.end]
        shown = shown_comment(said, values, names, bound=bound) if single else blank(said)
        if shown != said:
            edits.append(Edit(comment.start, comment.end, shown))
    return edits


def blank_others(scan: Scan, answers: Sequence[Answered]) -> None:
    """Blank what is left of the comments of a string in which something protected is touched, or it is said who acts."""
    if len(answers) < 2 or not scan.comments or not any(m.touches or m.effects.end_user or m.effects.reason for m in answers):
        return
    blanks = [Edit(c.start, c.end, blank(scan.text[c.start : c.end])) for c in scan.comments]
    edits = [e for m in answers for e in m.edits]
    occurrences = [o for m in answers for o in m.occurrences]
    for blanked in outside(blanks, edits, occurrences):
        own = max((m for m in answers if m.room[0] <= blanked.start), key=lambda m: m.room[0])
        own.edits.append(blanked)
        own.edits.sort(key=lambda e: (e.start, e.end))
