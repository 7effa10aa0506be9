"""What a forward pass of its own costs beside its tokens: whether two are merged or one is cut in two."""

from saebench.models.language_model import LanguageModel

# Multiply-adds that take as long as starting a pass (Python, kernels), and tokens that take as long as
# reading the weights.
START = {"cpu": 2e7, "cuda": 1e11}
WEIGHTS = 16


def spare_tokens(model: LanguageModel, blocks: int) -> float:
    """As many tokens in that many blocks take as long as a pass of its own costs beside its tokens."""
    cfg = model.bridge.cfg
    block = cfg.d_model * (4 * cfg.d_model + 2 * (cfg.d_mlp or 4 * cfg.d_model))
    return START["cpu" if model.device.type == "cpu" else "cuda"] / (block * max(1, blocks)) + WEIGHTS
