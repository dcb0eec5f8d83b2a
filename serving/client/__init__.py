"""The REST client: endpoint, resumable job, probes and the command; not a server."""
