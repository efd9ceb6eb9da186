"""What a model costs, and what compression did to it."""
