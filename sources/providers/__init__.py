"""One module a provider of raw tables; each registers itself."""
