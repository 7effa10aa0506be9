"""Tiny models of every architecture, made once."""

import pytest
from tiny_models import ARCHITECTURES, save_tiny

from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model


@pytest.fixture(scope="session", params=[*ARCHITECTURES, "neox-sequential"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return load_model(str(save_tiny(tmp_path_factory.mktemp(request.param), request.param)))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(str(save_tiny(tmp_path_factory.mktemp("gpt2"), "gpt2")))
