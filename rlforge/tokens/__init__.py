"""Messages to token ids and back, and finished rollouts to the token sequences a learner learns from."""
