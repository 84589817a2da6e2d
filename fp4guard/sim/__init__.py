"""Executes TTIR in numpy, the whole grid at once, against shadow memory. No GPU needed."""

from .coverage import SiteCoverage
from .launch import Simulator
from .trace import HangError, Incident, Site, Trace

__all__ = ["HangError", "Incident", "Simulator", "Site", "SiteCoverage", "Trace"]
