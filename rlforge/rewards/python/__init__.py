"""The scorer `python`: a customer's function, in a guarded process of its own."""
