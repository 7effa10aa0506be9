"""What is lost when something is killed at a random moment: a Ray node, or the process that drives a sweep."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.bench import Bench
from benchmarks.report import Table
from benchmarks.sweeps import scored
from saebench.records import failures, store

NODES_LOST, DRIVERS_KILLED = 10, 20
CONTROLS = ("control:mean", "control:identity", *(f"control:random:{k}:64" for k in range(1, 11)))
SEED = 0
# what a lost node is noticed by, faster than by default
_FAST = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_worker_niceness": "0",
}

_PORTS = (
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)


def words(out: Path) -> list[str]:
    """A sweep of twelve units."""
    said = ["--task", "synthetic/independent", "--budget", "tiny", "--device", "cpu", "--out", str(out)]
    return ["sweep", *CONTROLS, *said]


def _main(arguments: list[str]) -> None:
    from saebench.cli import main

    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        main(arguments)


def _here(out: Path) -> Any:
    """The sweep in a fork of this process, where everything is imported already."""
    process = get_context("fork").Process(target=_main, args=(words(out),))
    process.start()
    return process


def drivers(bench: Bench) -> Table:
    """SIGKILL at a random moment, then the same command again: the store is that of an uninterrupted run."""
    rng, rows = np.random.default_rng(SEED), []
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        whole = Path(root) / "whole"
        _here(whole).join()
        took, wanted = time.perf_counter() - started, scored(whole)
        assert len(wanted) == len(CONTROLS), "the uninterrupted run is complete"
        for number in range(DRIVERS_KILLED):
            out, moment = Path(root) / str(number), float(rng.uniform(0, took))
            process = _here(out)
            process.join(moment)
            alive = process.is_alive()
            if alive:
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            there = len(store.find(out)) if out.is_dir() else 0
            damaged = sum(p.kind == "damage" for p in store.verify(out, stale_after=0)) if there else 0
            again = _here(out)
            again.join()
            problems = store.verify(out, stale_after=0)
            rows.append(
                {
                    "killed after, s": moment,
                    "was at work": alive,
                    "results then": there,
                    "damaged then": damaged,
                    "equal after resuming": scored(out) == wanted and again.exitcode == 0,
                    "leftovers": sum(p.kind == "leftover" for p in problems),
                }
            )
    summary = {
        "killed at work": float(sum(row["was at work"] for row in rows)),
        "equal after resuming": float(sum(row["equal after resuming"] for row in rows)),
        "of": float(len(rows)),
    }
    note = (
        f"Twelve controls on synthetic/independent, tiny budget; uninterrupted {took:.0f} s. Leftovers are files that"
        " no reader sees."
    )
    return Table("killed", "The driver is killed, and the sweep given again", note, rows, summary)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Node:
    """A Ray node of one CPU with a working folder and a cache of its own."""

    def __init__(self, folder: Path, address: str | None, port: int) -> None:
        folder.mkdir(parents=True)
        head = ["--head", f"--port={port}", "--include-dashboard=false"]
        joins = [f"--address={address}"] if address else head
        # two nodes on one machine may not ask for the same ports
        joins += [f"--{name}={_free_port()}" for name in _PORTS]
        ray = Path(sys.executable).with_name("ray")
        env = {**os.environ, **_FAST, "SAEBENCH_CACHE": str(folder / "cache")}
        self._process = subprocess.Popen(
            [str(ray), "start", *joins, "--num-cpus=1", "--num-gpus=0", "--block", "--disable-usage-stats"],
            cwd=folder,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """Everything of the node at once, as when its power fails."""
        whole = psutil.Process(self._process.pid)
        for process in [whole, *whole.children(recursive=True)]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()


def _on(address: str, out: Path, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "saebench", *words(out), "--ray", address, "--workers", "2"],
        cwd=folder,
        env={**os.environ, **_FAST, "SAEBENCH_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _until(done: Callable[[], bool], what: str) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + 180
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within three minutes: {what}")
        time.sleep(0.2)


def _joined(ray: Any, address: str) -> bool:
    """Whether this process could join the cluster, to count its nodes."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except ConnectionError:
        return False
    return True


def _alive(ray: Any) -> int:
    return sum(node["Alive"] for node in ray.nodes())


def nodes(bench: Bench) -> Table:
    """Two nodes without a folder in common; one of them is killed while a sweep is at work."""
    rng, rows = np.random.default_rng(SEED), []
    with tempfile.TemporaryDirectory() as root:
        _here(Path(root) / "here").join()
        wanted, port = scored(Path(root) / "here"), _free_port()
        address = f"127.0.0.1:{port}"
        # a cluster of this table's own, whatever others run on this machine
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        ray: Any = import_module("ray")
        head = Node(Path(root) / "head", None, port)
        try:
            _until(lambda: _joined(ray, address), "a head node")
            rows = _trials(Path(root), address, wanted, rng, ray)
        finally:
            ray.shutdown()
            head.kill()
    summary = {"complete and equal": float(sum(r["equal"] for r in rows)), "of": float(len(rows))}
    note = (
        "Twelve controls on synthetic/independent, tiny budget, two nodes of one CPU on this machine with working"
        " folders and caches of their own; the first row is not interrupted."
    )
    return Table("nodes", "A Ray node is lost", note, rows, summary)


def _begun(out: Path, sweep: subprocess.Popen[str]) -> bool:
    """Whether the first result stands, or none will."""
    return bool(store.find(out)) or sweep.poll() is not None


def _trials(
    root: Path, address: str, wanted: dict[str, Any], rng: np.random.Generator, ray: Any
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    other, first, whole = Node(root / "other", address, 0), 0.0, 0.0
    for number in range(NODES_LOST + 1):
        _until(lambda: _alive(ray) == 2, "two nodes")
        out, folder = root / f"out{number}", root / f"driver{number}"
        folder.mkdir()
        started = time.perf_counter()
        # not while the driver is still importing
        sweep, moment = _on(address, out, folder), float(rng.uniform(first / 2, whole))
        at_work, there = True, 0
        if number:
            time.sleep(moment)
            at_work = sweep.poll() is None
            there = len(store.find(out)) if out.is_dir() else 0
            other.kill()
            other = Node(root / f"other{number}", address, 0)
        else:
            _until(partial(_begun, out, sweep), "a first result")
            first = time.perf_counter() - started
        said, _ = sweep.communicate(timeout=300)
        took = time.perf_counter() - started
        whole = whole or took
        rows.append(
            {
                "killed after, s": moment if number else None,
                "was at work": at_work,
                "results then": there if number else None,
                "took, s": took,
                "results": len(store.find(out)),
                "failed": len(failures.find(out)),
                "equal": sweep.returncode == 0 and scored(out) == wanted,
            }
        )
        if sweep.returncode:
            print(said, file=sys.stderr)
    other.kill()
    return rows
