"""The parts of the pages, one topic each."""
