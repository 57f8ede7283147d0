"""The comparison with other gateways; README.md says how to run it and what its figures mean."""
