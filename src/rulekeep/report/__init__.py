"""Run records in, a page, tables and figures out: torch is never loaded, nothing is unpickled."""

from rulekeep.report.merging import merged
from rulekeep.report.write import write_report

__all__ = ["merged", "write_report"]
