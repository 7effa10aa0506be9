"""Threads that wait sleep, unless the user said how they wait."""

import json
import os
import subprocess
import sys

import pytest

from saebench.cli.threads import let_threads_sleep


@pytest.mark.parametrize(
    "own", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "100"}, {"KMP_BLOCKTIME": "200"}]
)
def test_what_the_user_set_stands(own):
    environment = dict(own)
    let_threads_sleep(environment)
    assert environment == own


def test_it_is_said_before_torch_is_imported():
    code = (
        "import json, os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch':\n"
        "            print(json.dumps(dict(os.environ)), flush=True); os._exit(0)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from saebench.cli import main\n"
        "main(['inspect', 'demo:topk'])\n"
    )
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert json.loads(done.stdout)["OMP_WAIT_POLICY"] == "PASSIVE"
