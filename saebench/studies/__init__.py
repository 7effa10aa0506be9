"""Scripts that fill `results/` and make what is bundled. Not part of the wheel."""
