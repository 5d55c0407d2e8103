"""Ways to move weights from the learner to the generators: both ends of each channel."""
