"""Stage 6: what the report shows, gathered from a run's files."""
