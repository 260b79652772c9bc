"""Estimates for a run before it starts: memory, compute, time, money, and its layout on the machines."""

from __future__ import annotations

from underpaint.plan.estimate import Plan, make_plan
from underpaint.plan.rates import Calibration, calibrate
from underpaint.plan.text import render, render_rates

__all__ = ["Calibration", "Plan", "calibrate", "make_plan", "render", "render_rates"]
