"""uint8 batches -> float32 embeddings; one file a model library."""
