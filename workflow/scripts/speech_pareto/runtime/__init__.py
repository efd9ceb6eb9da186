"""What makes a job robust: files, logs, devices, processes, provenance."""
