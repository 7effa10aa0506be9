"""Workers on a Ray cluster: long-lived actors, which Ray places, and starts again where a node is lost.

Actors need no shared file system for results, which come back to the driver. They do need to see the
checkpoints: names on the hub, or paths that all nodes have.
"""

import os
import socket
import sys
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import Any

from saebench.errors import OptionError, UnitError
from saebench.evaluation.drive import Pool
from saebench.evaluation.units import Done, Unit
from saebench.sweep.worker import Worker

RETRIES = 3
"""How often a unit is tried where its node was lost, or its process killed."""
PATIENCE = 3.0
"""Seconds to wait for a cluster to take a connection."""


class OnRay(Pool):
    """One actor a worker, of one GPU where the cluster has any, else of one CPU."""

    def __init__(self, address: str = "auto", workers: int | None = None) -> None:
        try:
            ray: Any = import_module("ray")
        except ImportError as error:
            raise OptionError(
                "--ray needs the package ray, which is not installed. Install it beside saebench, on every"
                " node: pip install 'saebench[ray]'."
            ) from error
        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            _connect(ray, address)
        have = ray.cluster_resources()
        self._gpu = float(have.get("GPU", 0) >= 1)
        self.workers = workers or max(1, int(have.get("GPU", 0) or have.get("CPU", 1)))
        self._actors: dict[int, Any] = {}

    def submit(self, worker: int, unit: Unit) -> Future[Done]:
        if worker not in self._actors:
            self._actors[worker] = self._actor()
        answer: Future[Done] = Future()

        def received(future: Future[Done]) -> None:
            try:
                answer.set_result(future.result())
            # an actor that died too often, or what Ray itself raises
            except Exception as error:
                self._actors.pop(worker, None)
                answer.set_result(Done(unit, error=_lost(error)))

        self._actors[worker].do.remote(unit).future().add_done_callback(received)
        return answer

    def _actor(self) -> Any:
        remote = self._ray.remote(
            num_cpus=0 if self._gpu else 1, num_gpus=self._gpu, max_restarts=-1, max_task_retries=RETRIES
        )(Worker)
        return remote.remote(tuple(sys.argv))

    def release(self, worker: int) -> None:
        actor = self._actors.pop(worker, None)
        if actor is not None:
            # an actor whose node was lost may be waiting for this one's place
            self._ray.kill(actor)

    def close(self) -> None:
        for worker in list(self._actors):
            self.release(worker)
        if self._started:
            self._ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Joins a cluster; `auto` starts one on this machine where none runs.

    Raises:
        OptionError: if none answers at the address.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    given = os.environ.get("RAY_ADDRESS") or address
    place = _last_started() if given == "auto" else given
    # Ray itself asks a cluster that is gone for a quarter of an hour
    if place and not _listens(place):
        if given != "auto":
            raise OptionError(_nobody(given, f"nothing listens at {place}"))
        given = "local"
    try:
        ray.init(address=given, **quiet, **({"include_dashboard": False} if given == "local" else {}))
    except ConnectionError as error:
        if given != "auto":
            raise OptionError(_nobody(given, str(error).splitlines()[0][:160])) from error
        ray.init(address="local", include_dashboard=False, **quiet)


def _last_started() -> str:
    """Host and port of the cluster that the last `ray start` of this machine made; empty if it was stopped."""
    left = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    return left.read_text(encoding="utf-8").strip() if left.is_file() else ""


def _listens(place: str) -> bool:
    if "://" in place or place == "local":
        # clients have a protocol of their own, and what is started here need not listen yet
        return True
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE):
            return True
    except (OSError, ValueError):
        return False


def _nobody(address: str, reason: str) -> str:
    return (
        f"No Ray cluster answers at {address!r}: {reason}. Expected the address that `ray start --head` printed, or"
        " auto."
    )


def _lost(error: Exception) -> UnitError:
    return UnitError(
        f"Its worker was lost more than {RETRIES} times: {str(error).strip().splitlines()[0][:160]}. Mostly that is"
        " memory: expected room for a model, a site and a dictionary in every worker. Give fewer --workers, then"
        " --retry-failed."
    )
