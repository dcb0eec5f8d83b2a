"""The HTML report of one monitoring run; not the checks that it shows."""
