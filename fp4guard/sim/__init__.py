"""Executes TTIR, and the TTGIR of Gluon kernels, in numpy, the whole grid at once, against shadow memory."""

from .coverage import SiteCoverage
from .launch import GridError, Simulator
from .trace import HangError, Incident, Site, Trace

__all__ = ["GridError", "HangError", "Incident", "Simulator", "Site", "SiteCoverage", "Trace"]
