"""A study: its config, cells, files, forecast and progress."""
