"""How fast mixers are, side by side with attention. `measuring` takes time, `figures` reads it."""
