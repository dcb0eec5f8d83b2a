"""What a shot is and where shots come from.

The lowest floor: it imports no other package of this project. ``data/raw`` and ``data/processed`` hold files, not code.
"""
