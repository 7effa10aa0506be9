"""A stand-in for a GPU: a second device whose tensors lie in main memory.

It shows without a GPU what a GPU would refuse: tensors of two devices in one operation, a tensor of
the device read by numpy. Single numbers and indices may come from the CPU, as on CUDA. Whatever has
to wait for a GPU (values that the CPU reads, shapes that depend on values) is counted in `waits`.
It shows nothing of speed, of kernels or of their rounding.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend


class _Unannounced:
    """What torch asks of a device's module: none is there, so that nobody else takes it for a GPU."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return False

    def device_count(self) -> int:
        return 0

    def current_device(self) -> int:
        return 0

    def manual_seed_all(self, seed: int) -> None:
        """It has no generator of its own."""

    def _is_in_bad_fork(self) -> bool:
        return False


_setup_privateuseone_for_python_backend("standin", _Unannounced())
DEVICE = torch.device("standin", 0)
WAITS = {
    "_local_scalar_dense",
    "_unique2",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_dim",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class Held(Tensor):
    """A tensor on the device; `held` is its memory."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Held":
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("a tensor of the stand-in device is used outside `with StandIn()`")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert {DEVICE} device type tensor to numpy")
        return self.detach().cpu().numpy()

    def __repr__(self) -> str:
        return f"Held({self.held!r})"


class StandIn(TorchDispatchMode):
    """While entered, `DEVICE` can be used."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __enter__(self) -> "StandIn":
        # torch.tensor then fills CPU memory and moves it, which a mode can see
        torch._C._set_only_lift_cpu_tensors(True)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, Held)]
        asked = kwargs.get("device")
        here = bool(ours) if asked is None else torch.device(asked).type == DEVICE.type
        if name == "copy_":
            here = isinstance(args[0], Held)
        if ours and name not in ("_to_copy", "copy_"):
            _refuse_mixtures(name, args, tensors)
        self._count(name, args, ours, here)
        if asked is not None:
            kwargs["device"] = torch.device("cpu") if here else asked
        # what is written in place stays the tensor it was
        known = {id(tensor.held): tensor for tensor in ours}
        found = func(
            *tree_map_only(Held, lambda x: x.held, args), **tree_map_only(Held, lambda x: x.held, kwargs)
        )
        if not here:
            return found
        return tree_map_only(Tensor, lambda x: known[id(x)] if id(x) in known else Held(x), found)

    def _count(self, name: str, args: Any, ours: list[Held], here: bool) -> None:
        if not ours:
            return
        if name in WAITS:
            self.waits[name] += 1
        elif name in ("_to_copy", "copy_") and not here:
            self.waits["to the CPU"] += 1
        elif name in INDEXING:
            masks = [i for i in args[1] if isinstance(i, Tensor) and i.dtype == torch.bool]
            self.waits["index by mask"] += len(masks)


def _refuse_mixtures(name: str, args: Any, tensors: list[Tensor]) -> None:
    others = [tensor for tensor in tensors if not isinstance(tensor, Held) and tensor.dim()]
    if name in INDEXING and isinstance(args[0], Held):
        others = [tensor for tensor in others if all(tensor is not index for index in args[1])]
    if others:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in others)
        raise RuntimeError(f"aten::{name}: tensors on {DEVICE} and, of shape {shapes}, on cpu")
