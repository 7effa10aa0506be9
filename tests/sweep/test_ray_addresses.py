"""A Ray cluster that is gone is not waited for."""

import socket
from types import SimpleNamespace

import pytest

from saebench.errors import OptionError
from saebench.sweep.on_ray import _connect


@pytest.fixture
def closed():
    """A port of this machine where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What `ray.init` was asked for, on a machine whose Ray folder is empty."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    calls = []
    return SimpleNamespace(calls=calls, init=lambda **options: calls.append(options["address"]))


def test_what_a_crashed_cluster_left_behind_is_not_asked(asked, closed, tmp_path):
    (tmp_path / "ray" / "ray_current_cluster").write_text(closed)
    _connect(asked, "auto")
    assert asked.calls == ["local"]


def test_a_cluster_that_listens_is_joined(asked, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{server.getsockname()[1]}")
        _connect(asked, "auto")
    assert asked.calls == ["auto"]


def test_without_any_cluster_ray_decides(asked):
    _connect(asked, "auto")
    assert asked.calls == ["auto"]


@pytest.mark.parametrize("how", ["option", "environment"])
def test_an_address_where_nobody_listens_is_refused_before_ray_is_asked(asked, closed, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("RAY_ADDRESS", closed)
    with pytest.raises(OptionError, match=f"No Ray cluster answers at '{closed}': nothing listens"):
        _connect(asked, closed if how == "option" else "auto")
    assert asked.calls == []
