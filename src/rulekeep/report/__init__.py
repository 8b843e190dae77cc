"""Run records in, a page, tables and figures out: torch is never loaded, nothing is unpickled."""

from rulekeep.report.write import write_report

__all__ = ["write_report"]
