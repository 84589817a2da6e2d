"""What is told of findings: reproducer scripts and machine-readable summaries."""
