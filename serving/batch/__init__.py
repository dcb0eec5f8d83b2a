"""Batch scoring in this process or on Spark; not scoring over HTTP, which is ``serving.client``."""
