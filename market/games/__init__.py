"""Games of many traders, as pure maths on arrays."""
