"""Sources -> catalogue rows, one file a kind of source; and the frozen catalogue itself."""
