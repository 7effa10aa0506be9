"""What figures of arXiv 2405.08366 need beyond the axes: `python -m saebench.studies.makelov`."""
