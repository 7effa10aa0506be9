"""Measures on codes and decoders: detection, recovery of known features, subspaces."""
