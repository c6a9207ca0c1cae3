"""Assignments -> what a labelling tool imports, one file a tool."""
