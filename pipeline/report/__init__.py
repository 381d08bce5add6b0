"""`report.html`: what a run did, view by view, in one file that needs nothing else."""

from refdepth.pipeline.report.page import REPORT_NAME, write_report

__all__ = ["REPORT_NAME", "write_report"]
