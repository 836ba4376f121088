"""The CPU's own decoding path: the whole step compiled by numba, held to the PyTorch path by tests."""
