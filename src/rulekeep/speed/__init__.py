"""How fast mixers are beside attention: `measuring` takes times, `figures` reads them."""
