"""The audit: do the scores deserve belief? (docs/methods.md §12)

`rows` are scored dictionaries with paired draws, `lenses` turn them into cards, `report` and `figures`
show them; none of that needs torch. `stand`, `cheats`, `climb` and `measuring` make the rows.
"""
