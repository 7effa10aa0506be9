"""What is kept: results, outcomes, the store. Numpy only."""
