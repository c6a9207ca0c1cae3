"""Stage 2, from images to vectors, and what runs on its workers."""
