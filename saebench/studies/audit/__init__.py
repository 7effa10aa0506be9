"""Studies that fill `results/audit`: SAEs whose truth is known, and how a language model's SAEs learn."""
