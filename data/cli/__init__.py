"""The command line of every command: configuration, console, progress and durations; not what a command does."""
