"""The command line: every command parses its options, calls the room that does the work, and prints."""
