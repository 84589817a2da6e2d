"""Executes TTIR in numpy, the whole grid at once, against shadow memory. No GPU needed."""

from .launch import Simulator
from .trace import Incident, Site, Trace

__all__ = ["Incident", "Simulator", "Site", "Trace"]
