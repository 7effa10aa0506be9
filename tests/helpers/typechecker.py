"""The run-time check behind the annotations: an int is accepted where a float is asked for.

jaxtyping binds the names of a signature's dimensions at every call, which costs more than most small
functions do; here it checks signatures that name an array, and beartype alone checks the others.
"""

import re
from dataclasses import is_dataclass
from inspect import isclass

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_SHAPES = re.compile(r"jaxtyping|\b(Float|Int|Bool|Num|Shaped)\[")
_jaxtyped = jaxtyping.jaxtyped


def install(package: str) -> None:
    """From here on modules of the package are checked as they are imported."""
    jaxtyping.jaxtyped = _by_need
    jaxtyping.install_import_hook(package, "typechecker.check")


def _by_need(*, typechecker):
    return lambda checked: _checked(checked, typechecker)


def _checked(checked, typechecker):
    if isclass(checked):
        if not is_dataclass(checked) or _SHAPES.search(repr(checked.__init__.__annotations__)):
            return _jaxtyped(checked, typechecker=typechecker)
        checked.__init__ = _plain(checked.__init__)
        return checked
    if _SHAPES.search(repr(getattr(checked, "__annotations__", "jaxtyping"))):
        return _jaxtyped(checked, typechecker=typechecker)
    return _plain(checked)


def _plain(function):
    """Checked without shapes; names that are quoted may be known to the type checker alone."""
    quoted = any(isinstance(hint, str) for hint in function.__annotations__.values())
    return function if quoted else check(function)
