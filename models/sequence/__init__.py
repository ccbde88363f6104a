"""Deep networks on the last sessions of each stock: trained, asked, explained. The layer is `models.layers.sequence`."""
