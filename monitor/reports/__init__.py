"""The monitoring report, the model card and the pipeline report; not the app."""
