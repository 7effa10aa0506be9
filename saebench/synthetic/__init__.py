"""Data whose features are known (docs/methods.md §9): generators, the true dictionary, recovery of features.

`generator` draws activations, `families` says which features there are, `oracle` is the true
dictionary, `recovery` compares another dictionary with it, `training` trains SAEs on it.
"""
