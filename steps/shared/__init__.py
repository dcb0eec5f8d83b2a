"""What every step uses: command, tracking and engine; not a step."""
