"""One module a feature family; each registers itself."""
