"""Kernels. Each folder states one contract and holds its implementations; importing one registers its operators."""
