"""Inference Router: one address in front of local servers and hosted providers."""
