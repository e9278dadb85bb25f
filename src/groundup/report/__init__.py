"""A run's files -> one self-contained page for people (report.html) and the same figures for programs (report.json)."""

from groundup.report.build import build_report
from groundup.report.facts import key_figures

__all__ = ["build_report", "key_figures"]
