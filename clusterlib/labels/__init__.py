"""Names coming back -> labels for every image."""
