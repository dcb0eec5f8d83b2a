"""What MLflow holds, read for the monitor: runs, tables, labels and listings; not what it means."""
