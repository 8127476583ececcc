"""Finds where cameras, walls and lenses are, and how their colours answer. Imports ledvolume, never the other way round."""
