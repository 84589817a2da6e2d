"""The same targets on a real GPU: guarded memory of its own, and checks that run there."""
