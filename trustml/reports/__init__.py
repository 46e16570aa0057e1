"""Records → something that people look at."""
