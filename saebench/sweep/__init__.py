"""Many dictionaries × tasks × sites × seeds: planned, shared out, resumed."""
