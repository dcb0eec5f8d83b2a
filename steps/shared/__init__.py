"""What steps share: command, tracking, engine, validators, data origin and current data; not a step."""
