"""Ray Data wiring, one file a stage; the only room that imports ray."""
