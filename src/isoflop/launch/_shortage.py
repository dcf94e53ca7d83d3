"""Runs that are skipped at one start, because there is too little memory for them."""

from collections import Counter

from isoflop.errors import MemoryShortError


class Shortage:
    """What is skipped.

    Attributes:
        runs: The reason by the id of the run.
    """

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}
        self._ended = Counter[str]()

    def again(self, id_: str) -> int:
        """Count an attempt that ended for want of memory; return how many there were of that run."""
        self._ended[id_] += 1
        return self._ended[id_]

    def check(self) -> None:
        """Raise if anything was skipped.

        Raises:
            MemoryShortError: With the number of runs, and the reason of the first.
        """
        if self.runs:
            reason = next(iter(self.runs.values())).rstrip(".")
            what = (
                f"{len(self.runs)} run{'s were' if len(self.runs) > 1 else ' was'} not trained for want of memory; all others are finished, and none has failed"
            )
            raise MemoryShortError(f"{what}. The first: {reason}. With more memory, the same command trains them.")
