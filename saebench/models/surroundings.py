"""The caller's torch settings, out of the way while something is loaded or scored, and back afterwards."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Generators, grad mode, autocast, default dtype and device of the caller: neither used nor moved.

    Scoring in the middle of a training run must leave the run as it was, and must give the numbers that
    it gives elsewhere. Also a decorator: `@undisturbed()`.
    """
    dtype, python, numpy = torch.get_default_dtype(), random.getstate(), np.random.get_state()
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            # entered only then, since every call of torch would take longer
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, dtype)
        stack.callback(random.setstate, python)
        stack.callback(np.random.set_state, numpy)
        torch.set_default_dtype(torch.float32)
        # whatever draws from a global generator draws the same, wherever it is called
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        yield
