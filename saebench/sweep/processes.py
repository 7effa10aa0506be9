"""Processes on this machine: one per GPU where there are any, else as many as are asked for."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from saebench.errors import UnitError
from saebench.evaluation.drive import Pool
from saebench.evaluation.units import Done, Unit
from saebench.sweep.worker import Worker

_mine: list[Worker] = []
"""This process's worker, where it is one."""


def gpus() -> int:
    """GPUs that torch may use, counted without it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip()])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


class Processes(Pool):
    """One process a worker; one that is killed is replaced, and its unit has failed."""

    def __init__(self, workers: int, device: str = "auto") -> None:
        self.workers = workers
        self._gpus = gpus() if device in ("auto", "cuda") else 0
        self._pools: dict[int, tuple[ProcessPoolExecutor, int]] = {}

    def submit(self, worker: int, unit: Unit) -> Future[Done]:
        answer: Future[Done] = Future()
        if worker not in self._pools:
            self._start(worker)

        def received(future: Future[Done]) -> None:
            try:
                answer.set_result(future.result())
            except BrokenProcessPool:
                self._pools.pop(worker, None)
                answer.set_result(Done(unit, error=_killed()))
            # a result that cannot be sent
            except Exception as error:
                answer.set_result(Done(unit, error=UnitError(f"{type(error).__name__}: {error}")))

        self._pools[worker][0].submit(_do, unit).add_done_callback(received)
        return answer

    def _start(self, worker: int) -> None:
        gpu = _name_of_gpu(worker % self._gpus) if self._gpus else None
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (tuple(sys.argv), gpu, threads))
        self._pools[worker] = pool, pool.submit(os.getpid).result()

    def release(self, worker: int) -> None:
        pool = self._pools.pop(worker, None)
        if pool is not None:
            pool[0].shutdown(wait=False)

    def close(self) -> None:
        for pool, pid in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
            try:
                # what it is at was not asked for to the end
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        self._pools.clear()


def _name_of_gpu(number: int) -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[number] if visible else str(number)


def _killed() -> UnitError:
    return UnitError(
        "The process that scored it was killed. Mostly that is the operating system, out of memory: expected"
        " room for a model, a site and a dictionary in every worker. Give fewer --workers, then --retry-failed."
    )


def _begin(command: Sequence[str], gpu: str | None, threads: int) -> None:
    """Makes a process a worker: its GPU, its share of the cores, and an end when its parent ends."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # Ctrl-C reaches every process of a terminal; who decides is the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _mine.append(Worker(command))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _do(unit: Unit) -> Done:
    return _mine[0].do(unit)
