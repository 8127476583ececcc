"""The commands of `ledvolume`: each has `arguments(parser)` and `run(args) -> int`. cli.py lists them."""
