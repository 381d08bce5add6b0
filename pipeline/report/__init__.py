"""`report.html`: what a run did, view by view, in one file that needs nothing else."""

from refdepth.pipeline.report.page import write_report

__all__ = ["write_report"]
