"""Arrow schemas of every artifact, and the exactly-once table that holds the large ones."""
