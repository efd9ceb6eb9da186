"""Methods of compression, and recipes made of them."""
