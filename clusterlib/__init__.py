"""Sort large image catalogues into groups that people can name."""

__version__ = "0.1.0"
