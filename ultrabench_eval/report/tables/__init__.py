"""Tables as such: wide and long, in Markdown, CSV and LaTeX."""
