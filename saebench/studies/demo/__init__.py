"""Makers of the bundled model and SAEs."""
