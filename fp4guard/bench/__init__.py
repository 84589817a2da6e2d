"""How fast fp4guard is, beside what it is measured against."""
