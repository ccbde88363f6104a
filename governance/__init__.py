"""Who may serve what, and the record of it."""
