"""Choosing, fetching and looking into encoders, beside a run."""
