"""Results in one table, and what is computed from it."""
