"""A reader of the pickles inside torch files that executes nothing.

It interprets the opcodes that `torch.save` writes for dicts, lists, numbers, strings and tensors.
Every other global (`os.system`, a class, `numpy` objects) is refused by name; no import and no call
happens, and what comes out are descriptions of tensors, not tensors.
"""

import pickletools
from pathlib import Path
from typing import Any, NamedTuple

import torch

from saebench.errors import CheckpointError

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
_DTYPES = {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_CALLS = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor_v3"),
    ("torch._utils", "_rebuild_parameter"),
    ("collections", "OrderedDict"),
    ("torch", "device"),
    ("torch", "Size"),
}


class Global(NamedTuple):
    """A name in the pickle; inert."""

    module: str
    name: str


class Storage(NamedTuple):
    """Bytes in the archive that a tensor looks into."""

    dtype_name: str
    key: str
    numel: int

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype_name)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize


class Described(NamedTuple):
    """A tensor as the pickle describes it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def describe(data: bytes, path: Path) -> Any:
    """The object that a pickle describes, with tensors described and nothing executed.

    Raises:
        CheckpointError: if it names anything that is not part of a dict of tensors.
        ValueError: if it is not a pickle.
    """
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}
    for opcode, arg, _ in pickletools.genops(data):
        name = opcode.name
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(arg)
        elif name == "MARK":
            marks.append(stack)
            stack = []
        elif name in _FROM_MARK:
            items, stack = stack, marks.pop()
            _FROM_MARK[name](stack, items)
        elif name in _FROM_STACK:
            _FROM_STACK[name](stack)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "GLOBAL":
                module, attribute = str(arg).split(" ", 1)
            else:
                attribute, module = stack.pop(), stack.pop()
            stack.append(_global(module, attribute, path))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(arg or 0)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(arg or 0)])
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise CheckpointError(
                f"{path}: its pickle uses {name}, which no dict of tensors needs. Pickles can run"
                " code and are never opened; save the weights as safetensors."
            )
    raise ValueError("the pickle ends without a STOP")


def _global(module: Any, name: Any, path: Path) -> Global:
    known = (
        (module, name) in _CALLS
        or (module in ("torch", "torch.storage") and name in _STORAGES)
        or (module == "torch" and name in _DTYPES)
    )
    if not known:
        raise CheckpointError(
            f"{path}: its pickle names {module}.{name}, so loading it would run code. It is not"
            " opened. Ask for, or save, the weights as safetensors."
        )
    return Global(module, name)


def _reduce(stack: list[Any]) -> None:
    """What a call of a known global would give, without the call."""
    args, function = stack.pop(), stack.pop()
    name = function.name if isinstance(function, Global) else None
    if name == "OrderedDict":
        stack.append(dict(*args))
    elif name == "_rebuild_parameter":
        stack.append(args[0])
    elif name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3"):
        storage, offset, size, stride = args[:4]
        if name == "_rebuild_tensor_v3":
            wanted = _dtype(args[6])
            bytes_each = wanted.itemsize
            storage = Storage(str(wanted)[6:], storage.key, storage.numel // bytes_each)
        if not isinstance(storage, Storage):
            raise ValueError("a tensor without a storage")
        stack.append(Described(storage, offset, tuple(size), tuple(stride)))
    elif name == "Size":
        stack.append(tuple(*args))
    elif name == "device":
        stack.append(":".join(str(a) for a in args))
    else:
        raise ValueError(f"a call of {function!r}")


def _dtype(value: Any) -> torch.dtype:
    if not isinstance(value, Global) or value.name not in _DTYPES:
        raise ValueError(f"{value!r} is not a dtype")
    return getattr(torch, value.name)


def _persistent(stack: list[Any]) -> None:
    """`('storage', type, key, device, numel)`, as torch writes it."""
    tag, kind, key, _, numel = stack.pop()
    if tag != "storage" or not isinstance(kind, Global) or kind.name not in _STORAGES:
        raise ValueError("an unknown persistent id")
    stack.append(Storage(_STORAGES[kind.name], str(key), numel))


def _build(stack: list[Any]) -> None:
    # attributes of an OrderedDict (`_metadata` of a state dict); a dict has no use for them
    stack.pop()
    if not isinstance(stack[-1], dict):
        raise ValueError("BUILD on something that is not a dict")


def _setitem(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-1][key] = value


def _setitems(stack: list[Any], items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        stack[-1][key] = value


def _take(n: int) -> Any:
    def taken(stack: list[Any]) -> None:
        stack[-n:] = [tuple(stack[-n:])]

    return taken


_CONSTANTS = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    "BININT",
    "BININT1",
    "BININT2",
    "INT",
    "LONG",
    "LONG1",
    "BINFLOAT",
    "FLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "UNICODE",
    "BINSTRING",
    "SHORT_BINSTRING",
}
_FROM_MARK = {
    "TUPLE": lambda stack, items: stack.append(tuple(items)),
    "LIST": lambda stack, items: stack.append(items),
    "DICT": lambda stack, items: stack.append(dict(zip(items[::2], items[1::2], strict=True))),
    "APPENDS": lambda stack, items: stack[-1].extend(items),
    "SETITEMS": _setitems,
}
_FROM_STACK = {
    "TUPLE1": _take(1),
    "TUPLE2": _take(2),
    "TUPLE3": _take(3),
    "REDUCE": _reduce,
    "BINPERSID": _persistent,
    "BUILD": _build,
    "SETITEM": _setitem,
    "APPEND": lambda stack: stack[-2].append(stack.pop()),
}
