"""Covariance of returns: one module a way to estimate it; each registers its estimators."""
