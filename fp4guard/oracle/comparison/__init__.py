"""Outputs against expectations: what is wrong, where, and what it looks like."""
