"""A run that is done, tested at other lengths from its kept weights: `rulekeep test`."""
