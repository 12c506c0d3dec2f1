"""Remote runs on NDIF: what travels, how it is sent, what may go wrong."""
