"""Many images: each different layer is hashed once, on this machine or on a Dask cluster."""
