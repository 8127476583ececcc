"""One module per step of the project; each has MEASUREMENTS, a tuple of functions that return rows (script/measure.py)."""
