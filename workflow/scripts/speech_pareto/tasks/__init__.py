"""Tasks: heads, losses, decoding, scores."""
