"""Speech models: how they are described, built, cut and stored."""
