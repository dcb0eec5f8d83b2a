"""Command-line interface: configuration, console, progress bar and durations; not what a command does."""
