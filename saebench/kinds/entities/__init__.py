"""RAVEL-style tasks: facts about entities."""
