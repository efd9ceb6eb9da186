"""The page on which a reader chooses a student."""
