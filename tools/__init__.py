"""Commands for maintainers of this project."""
