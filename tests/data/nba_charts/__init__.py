"""nba_charts."""
