"""Networks over the last sessions of each stock of a day, one architecture a file."""
