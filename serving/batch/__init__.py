"""Scoring of tables by a model in this process, an endpoint or Spark; not the requests, which the client sends."""
