"""The room of a pool: which runs may start beside those that run, by the memory they need."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from isoflop.errors import TrainError
from isoflop.launch import _memory
from isoflop.runs import RunSpec
from isoflop.store import Claim


class Worker(Protocol):
    """What the room has to know of a worker."""

    claim: Claim | None

    @property
    def pid(self) -> int: ...


class Room:
    """Memory of the machine, shared out among workers on its CPU.

    A run's batch is halved only if the run could not have it whole with the machine to itself, so that results do not depend on what else runs; and where the
    system has ended its worker for want of memory.
    """

    def __init__(self, specs: Iterable[RunSpec]) -> None:
        self._specs = {spec.id: spec for spec in specs}
        self._halvings: dict[str, int] = {}
        self.refused: dict[str, str] = {}  # runs that can never fit, and why
        limit = _memory.limit()
        for spec in self._specs.values():
            try:
                self._halvings[spec.id] = _memory.halvings(spec, limit)
            except TrainError as error:
                self.refused[spec.id] = str(error)
        self._needs = {id_: _memory.need(self._specs[id_], halvings=n).total for id_, n in self._halvings.items()}

    def fits(self, ids: Collection[str], worker: Worker, workers: Sequence[Worker]) -> Mapping[str, int]:
        """Those of the runs that the worker may train now beside what the others do; and in how many parts a batch."""
        room = self._free(workers) - sum(self._taken(w) for w in workers if w is not worker)
        return {id_: 2 ** self._halvings[id_] for id_ in ids if id_ in self._needs and self._needs[id_] <= room}

    def wanted(self, ids: Collection[str], workers: Sequence[Worker], *, most: int) -> int:
        """How many workers there is room for, all of them busy with the largest runs that fit together; one at least, and at most so many."""
        busy = [w for w in workers if w.claim]
        waiting = sorted((id_ for id_ in ids if id_ in self._needs), key=lambda id_: (-self._specs[id_].flops, id_))
        room = self._free(workers) - sum(map(self._taken, busy))
        return max(1, len(busy) + len(_memory.fitting([self._needs[id_] for id_ in waiting], room, most=most - len(busy))))

    def squeeze(self, ids: Collection[str], worker: Worker) -> None:
        """Halve batches so far that a run fits into what there is now, where nothing else of ours runs.

        Raises:
            TrainError: There is too little even for one sequence at a time, though the machine has more: other programs hold it.
        """
        room = self._free([worker])
        troubles = []
        for id_ in ids & self._needs.keys():
            try:
                self._divide(id_, max(self._halvings[id_], _memory.halvings(self._specs[id_], room)))
            except TrainError as error:
                troubles.append(error)
        if troubles and len(troubles) == len(ids & self._needs.keys()):
            raise troubles[0]

    def halve(self, id_: str) -> int:
        """Parts that a run's batch is worked through in from now on, twice as many as before; 0 if it was one sequence at a time already."""
        spec = self._specs[id_]
        if id_ not in self._halvings or 2 ** self._halvings[id_] >= spec.batch // spec.shape.context:
            return 0
        self._divide(id_, self._halvings[id_] + 1)
        return 1 << self._halvings[id_]

    def _divide(self, id_: str, halvings: int) -> None:
        self._halvings[id_], self._needs[id_] = halvings, _memory.need(self._specs[id_], halvings=halvings).total

    def _free(self, workers: Sequence[Worker]) -> float:
        return _memory.free([w.pid for w in workers])

    def _taken(self, worker: Worker) -> float:
        """What a worker may come to hold at its present run; without one, what the process takes."""
        return self._needs[worker.claim.spec.id] if worker.claim else max(_memory.held(worker.pid), _memory.IDLE)
