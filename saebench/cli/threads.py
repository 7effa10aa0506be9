"""How threads wait, said before torch starts them."""

from collections.abc import MutableMapping

_SAID = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def let_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Threads of OpenMP sleep while they wait, unless the user said anything about how they wait.

    By default they spin. Beside another process that keeps the cores busy, the threads that spin take
    the time of the one that is waited for: an evaluation of 31 s took 300 s. It has to be said before
    torch is imported, since the library reads it once.
    """
    if not any(name in environment for name in _SAID):
        # GNU's library spins for a while even when it is to wait passively
        environment.update({"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"})
