"""Bytes -> uint8 RGB array, or a Rejection with a code."""
