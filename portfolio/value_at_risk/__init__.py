"""Value at risk and expected shortfall: one module a way to estimate them; each registers its models."""
