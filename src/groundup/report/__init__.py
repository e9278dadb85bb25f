"""A run's files -> one self-contained page for people (report.html) and the same figures for programs (report.json).

Two models' answers -> a page of them side by side.
"""

from groundup.report.build import build_report
from groundup.report.facts import key_figures
from groundup.report.side_by_side import render_comparison, write_page

__all__ = ["build_report", "key_figures", "render_comparison", "write_page"]
