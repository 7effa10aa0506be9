"""Speed and memory against TransformerLens' plain way and against what arithmetic allows."""
