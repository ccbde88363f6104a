"""Deep networks on the last sessions of each stock; the layer that uses them is `models.layers.sequence`."""
