"""Load on Warren over plain Socket.IO frames, and a checker of what it left in the store."""
