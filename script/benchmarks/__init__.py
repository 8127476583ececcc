"""Benchmarks: each module is one question, answered by functions that return rows (script/measure.py)."""
