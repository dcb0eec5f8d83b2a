"""The retraining policy, promotion test, decision log, backtest and calendar; not the training."""
