"""One source of corpora each."""
