"""A simulated market with a known truth: pure maths on arrays, every draw fixed by the seed."""
