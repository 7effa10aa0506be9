"""Edits of an attribute: few latents, pairs of prompts, learned masks and rotations."""
