"""Finding the sites at which a task's attributes act in a model (docs/methods.md §13)."""
