"""Training that can be killed: the trainer's state is written now and then, and read when it starts again."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

WHOLE = "state.safetensors"
"""Written last: a checkpoint without it is half there."""


class Resuming(NamedTuple):
    """Where checkpoints are kept, how many are written, and how the batches go on after one."""

    folder: Path
    batches: Callable[[int], Iterator[Float[Tensor, "batch d_in"]]]
    """The same batches as ever, from that number on."""
    times: int = 20

    def attach(self, trainer: Any) -> None:
        """Makes SAELens' trainer write checkpoints, and puts it where the last one left off."""
        trainer.save_checkpoint_fn = lambda checkpoint_path: self._finish(trainer, checkpoint_path)
        done = self._load(trainer)
        trainer.data_provider = self.batches(done)

    def _finish(self, trainer: Any, path: Path) -> None:
        """What SAELens' own files lack (raw weights), then the older checkpoints are dropped."""
        part = path / f"{WHOLE}.part"
        state = {
            name: value.detach().clone().contiguous() for name, value in trainer.sae.state_dict().items()
        }
        save_file(state, part)
        part.rename(path / WHOLE)
        for other in self.folder.iterdir():
            if other != path:
                shutil.rmtree(other)

    def _load(self, trainer: Any) -> int:
        """Restores the newest whole checkpoint; returns how many batches were drawn up to it."""
        found = [path for path in self.folder.glob("*") if (path / WHOLE).is_file()]
        if not found:
            return 0
        newest = max(found, key=lambda path: int(path.name))
        trainer.sae.load_state_dict(load_file(newest / WHOLE))
        with torch.no_grad():
            trainer.load_trainer_state(newest)
        # SAELens writes a checkpoint before it counts the step that led to it
        trainer.n_training_steps += 1
        return trainer.cfg.n_batches_for_norm_estimate + trainer.n_training_steps

    def clear(self) -> None:
        """Removes the checkpoints of a training run that is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
