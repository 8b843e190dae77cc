"""Run records in, a page, tables and figures out: torch is never loaded, nothing is unpickled."""

from rulekeep.analysis.merging import merged, trained_apart
from rulekeep.reporting.write import write_report

__all__ = ["merged", "trained_apart", "write_report"]
