"""The main jobs, put together of all stages."""
