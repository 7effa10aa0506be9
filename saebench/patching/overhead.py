"""What a forward pass of its own costs beside its tokens: whether two are merged or one is cut in two."""

from saebench.models.language_model import LanguageModel

# Multiply-adds that take as long as starting a pass (Python, kernels), or each of its blocks with their hooks,
# and tokens that take as long as reading the weights.
START = {"cpu": 2e7, "cuda": 1e11}
BLOCK_START = {"cpu": 1e8, "cuda": 1e11}
WEIGHTS = 16


def spare_tokens(model: LanguageModel, blocks: int) -> float:
    """As many tokens in that many blocks take as long as a pass of its own costs beside its tokens."""
    return START[_kind(model)] / (_block(model) * max(1, blocks)) + WEIGHTS


def worth_together(model: LanguageModel, tokens: float, most: int) -> int:
    """How many passes of that many tokens take hardly longer together than starting four of them apart.

    Of a narrow model's pass over few tokens, starting the blocks is nearly everything.
    """
    return max(1, min(most, int(4 * BLOCK_START[_kind(model)] / (_block(model) * tokens))))


def _kind(model: LanguageModel) -> str:
    return "cpu" if model.device.type == "cpu" else "cuda"


def _block(model: LanguageModel) -> int:
    """Multiply-adds of one token in one block, without attention's own."""
    cfg = model.bridge.cfg
    return cfg.d_model * (4 * cfg.d_model + 2 * (cfg.d_mlp or 4 * cfg.d_model))
