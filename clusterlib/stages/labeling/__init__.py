"""What labelling tools get, and what comes back from them."""
