"""Evaluations that another product carries out, each behind one door."""
