"""The tables of `fp4guard bench gpu`, in their order."""

from __future__ import annotations

from . import clean, cost, detection, survival
from .table import Table

TABLES: dict[str, Table] = {table.name: table for table in (cost.TABLE, clean.TABLE, detection.TABLE, survival.TABLE)}
