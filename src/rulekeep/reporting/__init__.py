"""Run records in, a page, tables and figures out: torch is never loaded, nothing is unpickled."""
