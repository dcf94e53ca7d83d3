"""What a corpus holds and what it excludes, in sentences."""

from isoflop import units
from isoflop.data.corpus import Corpus

_MUCH = 0.02  # of the text; assumption: so much is worth a look
_OFTEN = 65_536  # bytes of text a separator, at most


def summary(corpus: Corpus) -> str:
    """Return one line that says what is held out and what is excluded."""
    held_out = f"{100 * corpus.held_out:.1f} % held out ({numbered(corpus.val_documents, 'document')} of {corpus.documents:,})"
    excluded = "; ".join(_excluded(corpus)) or "nothing"
    return f"{held_out}; excluded: {excluded}."


def warnings(corpus: Corpus) -> tuple[str, ...]:
    """Return what a person should look at before training."""
    found = []
    share = _excluded_share(corpus)
    if share > _MUCH:
        named = "; ".join(f"{reason}: {', '.join(entry.first)}" for reason, entry in corpus.excluded.items())
        found.append(f"{100 * share:.1f} % of the text is excluded. The first of each reason: {named}. docs/data.md says what to do.")
    if not corpus.validation / 2 <= corpus.held_out <= 2 * corpus.validation:
        what = f"{100 * corpus.held_out:.1f} % of the text is held out instead of {100 * corpus.validation:g} %, since documents are held out whole"
        found.append(f"{what}. Give more text or shorter documents, or set validation to what you want.")
    for mark, count in corpus.marks.items():
        if mark != corpus.separator and count > 1 and count * _OFTEN >= corpus.bytes:
            what = f"the text has {mark} {count:,} times, which looks like the end of a document, and models learn it as characters"
            found.append(f'{what}. If it separates documents, set separator = "{mark}" in the study.')
    return tuple(found)


def size(n: int) -> str:
    """Return a number of bytes as people write it."""
    return units.size(n) if n >= 1000 else numbered(n, "byte")


def numbered(n: int, word: str) -> str:
    """Return a number with its word, in the plural if that is due."""
    return f"{n:,} {word}{'s' * (n != 1)}"


def _excluded(corpus: Corpus) -> list[str]:
    total = max(corpus.bytes + sum(entry.bytes for entry in corpus.excluded.values()), 1)
    known = [f"{entry.documents:,} {reason} ({size(entry.bytes)}, {100 * entry.bytes / total:.2g} %)" for reason, entry in corpus.excluded.items()]
    return known + [f"{count:,} {reason}" for reason, count in corpus.dropped.items()]


def _excluded_share(corpus: Corpus) -> float:
    excluded = sum(entry.bytes for entry in corpus.excluded.values())
    return excluded / max(corpus.bytes + excluded, 1)
