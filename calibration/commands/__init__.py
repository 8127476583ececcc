"""The commands of `ledvolume calibrate`: one module each, as in ledvolume.commands."""
