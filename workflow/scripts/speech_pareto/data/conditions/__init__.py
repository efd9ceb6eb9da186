"""What can be changed about a recording: a file for each, named after its first setting."""
