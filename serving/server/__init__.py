"""The production server and the process that runs MLflow's server; not the model that they serve."""
