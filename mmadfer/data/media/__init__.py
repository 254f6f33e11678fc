"""Media files read: frames as pixels, sound as samples and as a filter bank."""
