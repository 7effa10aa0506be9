"""Whether one dictionary is credibly worse than another."""
