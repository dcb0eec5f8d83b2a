"""The model that is logged and served, its files and their manifest; not which version is the champion."""
