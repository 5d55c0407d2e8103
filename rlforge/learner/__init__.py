"""Turns batches of trajectories into new policy versions: model, packing, loss, optimizer, checkpoint."""
