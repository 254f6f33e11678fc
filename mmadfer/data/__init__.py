"""From media files to batches: sets, faces, sound, store, sampling and loader."""
