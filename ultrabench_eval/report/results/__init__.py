"""What a results folder holds, read once for all pages."""
