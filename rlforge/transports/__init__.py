"""How to reach code that we do not run: environments and reward endpoints alike."""
