"""inference_log."""
