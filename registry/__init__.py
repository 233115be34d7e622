"""What is stored, and what depends on what."""
