"""What people write by hand instead, with the same pipeline, to be measured beside."""
