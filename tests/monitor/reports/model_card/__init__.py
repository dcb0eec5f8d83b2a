"""model_card."""
