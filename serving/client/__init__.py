"""The REST client: endpoint, probes and the command; not a server."""
