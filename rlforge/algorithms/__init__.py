"""Credit and losses: pure tensor functions, and one small file per algorithm."""
