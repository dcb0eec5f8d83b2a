"""Plotly charts and static plots of what was computed; not the computation."""
