"""Care of a run's tables: compaction, verification, garbage, second attempts."""
