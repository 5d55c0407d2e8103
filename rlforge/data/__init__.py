"""Where tasks, conversations and documents come from, in which order they are drawn, and which were trained."""
