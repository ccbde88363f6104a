"""One module a layer; each registers itself."""
