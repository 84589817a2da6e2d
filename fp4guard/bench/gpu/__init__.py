"""`fp4guard bench gpu`: what fp4guard sees on a GPU and what it costs there, in tables."""
