"""Works units off: whoever is free gets the next one of the group that it holds already.

No scheduler: a worker does one unit at a time, and what a pool does about machines is its own affair.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Generic, TypeVar

from saebench.evaluation.units import Done, Group, Keeper, Unit, perform

T = TypeVar("T")
Begin = Callable[[Unit], None]
"""Called when a unit begins."""


class Pool(ABC):
    """Workers, by number from 0."""

    workers: int

    @abstractmethod
    def submit(self, worker: int, unit: Unit) -> Future[Done]:
        """Gives a free worker a unit. The future never raises for a unit that failed: it says so."""

    @abstractmethod
    def release(self, worker: int) -> None:
        """Nothing waits for the worker: what it holds may go. It may be given a unit all the same."""

    @abstractmethod
    def close(self) -> None:
        """Ends the workers, whatever they are at."""


class Here(Pool):
    """This process, one unit at a time."""

    workers = 1

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper

    def submit(self, worker: int, unit: Unit) -> Future[Done]:
        future: Future[Done] = Future()
        try:
            future.set_result(perform(unit, self.keeper))
        # whatever goes wrong with one unit, the next one is another matter
        except Exception as error:
            future.set_result(Done(unit, error=error))
        return future

    def release(self, worker: int) -> None:
        self.keeper.clear()

    def close(self) -> None:
        """Nothing runs on."""


class Queue:
    """Units that wait, by group, in the order in which they came."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._waiting: dict[Group, deque[Unit]] = {}
        self._at: dict[int, Group] = {}
        for unit in units:
            self._waiting.setdefault(unit.group, deque()).append(unit)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def first(self, units: Iterable[Unit]) -> None:
        """Puts units of one group in front of the others of it."""
        for unit in reversed(list(units)):
            self._waiting.setdefault(unit.group, deque()).appendleft(unit)

    def take(self, worker: int) -> Unit:
        """The next unit of the worker's group, else of one that nobody is at, else of the longest."""
        group = self._at.get(worker)
        if group is None or group not in self._waiting:
            free = [g for g in self._waiting if g not in self._at.values()]
            group = free[0] if free else max(self._waiting, key=lambda g: len(self._waiting[g]))
            self._at[worker] = group
        units = self._waiting[group]
        unit = units.popleft()
        if not units:
            del self._waiting[group]
        return unit


def drive(units: Iterable[Unit], pool: Pool, begin: Begin = lambda _: None) -> Iterator[Done]:
    """Yields what became of every unit, as it is done; further units are done in place of their own."""
    queue, free = Queue(units), list(range(pool.workers))
    at: dict[Future[Done], tuple[int, Unit]] = {}
    try:
        while queue or at:
            while queue and free:
                worker = free.pop(0)
                unit = queue.take(worker)
                begin(unit)
                at[pool.submit(worker, unit)] = worker, unit
            # whoever has nothing to do keeps what it holds while units may still come of one
            for worker in () if any(unit.contestant is None for _, unit in at.values()) else free:
                pool.release(worker)
            for future in wait(at, return_when=FIRST_COMPLETED).done:
                worker, unit = at.pop(future)
                free.append(worker)
                # the unit itself, not the copy that came back from another process
                done = future.result()._replace(unit=unit)
                queue.first(done.more)
                yield done
    finally:
        pool.close()


class InTurn(Generic[T]):
    """Puts what comes of units back into their order, whichever is done first."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._turn = deque(units)
        self._come: dict[int, T] = {}

    def expand(self, unit: Unit, more: Iterable[Unit]) -> None:
        """Further units stand in place of their own."""
        at = next(place for place, one in enumerate(self._turn) if one is unit)
        del self._turn[at]
        for place, one in enumerate(more, at):
            self._turn.insert(place, one)

    def put(self, unit: Unit, what: T) -> None:
        """Something came of a unit, the very one that was asked for."""
        self._come[id(unit)] = what

    def ready(self) -> Iterator[T]:
        """What came of the first units, up to the first that is not done."""
        while self._turn and id(self._turn[0]) in self._come:
            yield self._come.pop(id(self._turn.popleft()))
