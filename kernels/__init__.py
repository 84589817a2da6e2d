"""The included kernels, one folder a family; `fp4guard.fuzz.loading` finds and loads them."""
