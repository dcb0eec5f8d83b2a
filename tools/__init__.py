"""Commands for those who maintain this project."""
