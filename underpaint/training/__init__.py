"""The training loop and what it needs: optimizer, schedule, ranks, checkpoints, log, clock and signals."""
