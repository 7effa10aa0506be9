"""What the benchmarks share: a model of GPT-2 small's shape with random weights, and prompts."""

import contextlib
import io
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from saebench.models.language_model import LanguageModel
from saebench.models.loading import load_model

N_PROMPTS, LENGTH = 16, 20
GPT2_TOKENIZER = Path(__file__).parents[2] / "shared" / "models" / "gpt2-tokenizer"


@dataclass
class Bench:
    """Device, number of repetitions, and the model, which is made when it is first needed."""

    device: torch.device
    rounds: int = 3
    real: str = "smollm2-135m"
    """Name of a trained model, for the tables about one."""
    budget: str = "quick"
    """Of a task on that model."""
    tasks: tuple[str, ...] = ("ioi",)
    """On that model. RAVEL trains rotations through all blocks behind its site: hours on a CPU."""
    widths: tuple[int, ...] = (4608,)
    """Of SAEs on that model."""

    @property
    def cpu_clock(self) -> bool:
        """Whether tables about the trained model count CPU time, which other processes hardly move."""
        return self.device.type == "cpu" and torch.get_num_threads() == 1

    @cached_property
    def directory(self) -> Path:
        """A Hugging Face directory of GPT-2 small's shape; about half a gigabyte, temporary."""
        from transformers import GPT2Config, GPT2LMHeadModel

        self._keep = tempfile.TemporaryDirectory(prefix="gpt2-small-shape-")
        path = Path(self._keep.name)
        torch.manual_seed(0)
        with contextlib.redirect_stderr(io.StringIO()):
            GPT2LMHeadModel(GPT2Config()).save_pretrained(path)
        _tokenizer().save_pretrained(path)
        return path

    @cached_property
    def model(self) -> LanguageModel:
        return load_model(str(self.directory), device=str(self.device))

    @cached_property
    def tokens(self) -> list[list[int]]:
        """16 prompts of 20 random tokens."""
        generator = torch.Generator().manual_seed(0)
        size = (N_PROMPTS, LENGTH)
        return torch.randint(0, self.model.d_vocab, size, generator=generator).tolist()


def _tokenizer() -> Any:
    """GPT-2's own where its files are at hand, else one of as many made-up words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

    if GPT2_TOKENIZER.is_dir():
        return GPT2Tokenizer.from_pretrained(str(GPT2_TOKENIZER))
    words = {f"w{i}": i for i in range(50_256)} | {"<|endoftext|>": 50_256}
    inner = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=end, eos_token=end, unk_token=end)
