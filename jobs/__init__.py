"""Entry points: parse, load the configuration, call a stage. `python -m jobs.<name> --help`."""
