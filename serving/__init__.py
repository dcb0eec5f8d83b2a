"""The served model, the registry, the server and the REST client."""
