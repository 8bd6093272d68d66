"""Hostile files and options: seeded mutators, and a worker process that survives what programs do with them."""
