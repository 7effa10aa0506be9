"""How an evaluation is run: contestants, benches, batches."""
