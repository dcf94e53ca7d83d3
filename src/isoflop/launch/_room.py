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

    A run's batch is halved only if the run could not have it whole with the machine to itself, so that results do not depend on what else runs.
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
                self._halvings[id_] = _memory.halvings(self._specs[id_], room)
                self._needs[id_] = _memory.need(self._specs[id_], halvings=self._halvings[id_]).total
            except TrainError as error:
                troubles.append(error)
        if troubles and len(troubles) == len(ids & self._needs.keys()):
            raise troubles[0]

    def _free(self, workers: Sequence[Worker]) -> float:
        return _memory.free([w.pid for w in workers])

    def _taken(self, worker: Worker) -> float:
        """What a worker may come to hold at its present run; without one, what the process takes."""
        return self._needs[worker.claim.spec.id] if worker.claim else max(_memory.held(worker.pid), _memory.IDLE)
