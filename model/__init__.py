"""What is learned, and the geometry it is learned in."""
