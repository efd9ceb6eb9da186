"""Recordings and transcripts."""
