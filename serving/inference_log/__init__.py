"""The log of requests and predictions: writer, reader, ground truth and retention; not its monitoring."""
